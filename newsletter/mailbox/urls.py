"""The pages under /mailbox/, there only where MAILBOX_PATH is set."""

from __future__ import annotations

from django.urls import path

from newsletter.mailbox import views

app_name = "mailbox"
urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("empty/", views.empty, name="empty"),
    path("<int:mail_id>/", views.mail, name="mail"),
    path("<int:mail_id>/frame/", views.frame, name="frame"),
    path("<int:mail_id>/mail.eml", views.raw, name="raw"),
    path("<int:mail_id>/attachments/<int:index>/", views.attachment, name="attachment"),
]
