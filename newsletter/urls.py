"""Paths. What begins with one letter stands in sent mail for ever (`newsletter.tracking` writes it)."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from newsletter.views import account, errors, health, hits, incoming, issues, leaving, preferences, public, subscribing

urlpatterns = [
    path("admin/", admin.site.urls),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("o/<str:token>", hits.pixel, name="pixel"),
    path("o/d/<str:token>", hits.anonymous_pixel, name="anonymous-pixel"),
    path("c/<str:static>", hits.click, name="click"),
    path("c/<str:static>/<str:token>", hits.click, name="individual-click"),
    path("u/<str:token>", leaving.unsubscribe, name="unsubscribe"),
    path("u/<str:token>/undo", leaving.undo, name="undo"),
    path("p/<str:token>", preferences.preferences, name="preferences"),
    path("i/<str:token>", issues.for_reader, name="web-view"),
    path("y/<str:token>", subscribing.confirm, name="confirm"),
    path("a/<str:token>", account.link, name="one-time-link"),
    path("a/<str:token>/download", account.download, name="download"),
    path("a/<str:token>/address", account.change_address, name="change-address"),
    path("a/<str:token>/erase", account.erase, name="erase"),
    path("account", account.ask, name="account"),
    path(".well-known/gpc.json", public.global_privacy_control, name="gpc"),
    path("webhooks/<str:provider>/", incoming.provider_events, name="provider-events"),
    path("favicon.ico", public.icon, name="icon"),
]
if settings.ENV.mailbox_path:
    urlpatterns.append(path("mailbox/", include("newsletter.mailbox.urls")))
urlpatterns += [
    path("", public.home, name="home"),
    path("<slug:slug>/", public.newsletter, name="newsletter"),
    path("<slug:slug>/subscribe", subscribing.subscribe, name="subscribe"),
    path("<slug:slug>/theme.css", public.theme, name="theme"),
    path("<slug:slug>/<int:issue>/", issues.for_everybody, name="public-issue"),
]

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = errors.broken
