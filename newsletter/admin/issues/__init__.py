"""Issues: write, see what each reader will see, import, schedule. What is on its way is only read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from newsletter import outlook, scheduling, wording
from newsletter.admin import acting, base
from newsletter.admin.dispatches import settling
from newsletter.admin.issues import editing, importing, listing, previewing, sending
from newsletter.models import Dispatch, Issue, Newsletter, Revision, Section

VIEW, CHANGE = "newsletter.view_issue", "newsletter.change_issue"


class IssueList(base.ChangeList):
    """The list, each issue with its state."""

    def get_results(self, request: HttpRequest) -> None:
        """The rows of this page; all their states are asked for at once."""
        super().get_results(request)
        found = listing.states(self.result_list)
        people = listing.people(found.values())
        for issue in self.result_list:
            issue.state = found[issue.pk]
            issue.people = people.get(issue.state.dispatch.pk) if issue.state.dispatch else None


@admin.register(Issue)
class IssueAdmin(base.ModelAdmin[Issue]):
    """The list of issues, the page of each, and the pages around it."""

    form = editing.IssueForm
    inlines = (editing.SectionInline,)
    list_display = ("title", "newsletter", "number", "state", "opened", "clicked", "changed")
    list_filter = (listing.StateFilter, "newsletter")
    search_fields = ("title", "=number")
    search_help_text = "A word of the title, or the number"
    ordering = ("-pk",)
    sortable_by = ()
    paginator = base.BoundedPaginator
    add_fieldsets = ((None, {"fields": ("newsletter", "title", "number")}),)
    fieldsets = ((None, {"fields": ("title", "subject", "preheader", ("number", "date"), "seen")}),)
    change_form_template = "admin/newsletter/issue/change_form.html"
    change_list_template = "admin/newsletter/issue/change_list.html"

    class Media:
        js = ("admin/masthead/desk.js",)

    @admin.display(description="State")
    def state(self, issue: Issue) -> str:
        """Where it stands, as a badge."""
        return listing.badge(issue.state)  # type: ignore[attr-defined]

    @admin.display(description="Opened by", empty_value="")
    def opened(self, issue: Issue) -> str | None:
        """How many people opened it, once it goes out, where readers are followed."""
        return None if issue.people is None else f"{issue.people.get('open', 0):,}"  # type: ignore[attr-defined]

    @admin.display(description="Clicked by", empty_value="")
    def clicked(self, issue: Issue) -> str | None:
        """How many people clicked in it, once it goes out, where readers are followed."""
        return None if issue.people is None else f"{issue.people.get('click', 0):,}"  # type: ignore[attr-defined]

    @admin.display(description="Last saved")
    def changed(self, issue: Issue) -> str:
        """When it was last saved, by the newsletter's clock."""
        at = scheduling.wall_time_in(issue.updated_at, issue.newsletter.time_zone)
        return f"{at.day} {at:%b %Y, %H:%M}"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[IssueList]:
        """The list with states."""
        return IssueList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Issue]:
        """With their newsletters, which every page names."""
        return super().get_queryset(request).select_related("newsletter")

    def get_inlines(self, request: HttpRequest, obj: Issue | None) -> Any:
        """Sections, once there is an issue."""
        return self.inlines if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """The newsletter of the latest issue, and the number that comes next."""
        initial: dict[str, Any] = dict(super().get_changeform_initial_data(request))
        latest = Issue.objects.select_related("newsletter").first()
        newsletter = latest.newsletter if latest else Newsletter.objects.order_by("pk").first()
        if newsletter is not None and "newsletter" not in initial:
            initial |= {"newsletter": newsletter.pk, "number": editing.next_number(newsletter)}
        return initial

    def has_change_permission(self, request: HttpRequest, obj: Issue | None = None) -> bool:
        """Whoever may write issues, as long as this one is not on its way."""
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or editing.may_still_change(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Issue | None = None) -> bool:
        """Only drafts that were never scheduled: what readers got is kept."""
        if not super().has_delete_permission(request, obj):
            return False
        return obj is None or not Revision.objects.filter(issue=obj).exists()

    def get_urls(self) -> list[URLPattern]:
        """Django's, and the pages around an issue."""
        views: dict[str, tuple[acting.View[Any], str, tuple[str, ...]]] = {
            "frame": (self._frame, VIEW, ("GET",)),
            "preview": (self._preview, VIEW, ("GET",)),
            "forms": (self._forms, VIEW, ("GET",)),
            "send": (self._send, acting.SEND, ("GET", "POST")),
        }
        imports = path("import/", self.admin_site.admin_view(self._import), name="newsletter_issue_import")
        return [imports, *acting.pages(self, self._rows, views), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; whoever may write finds the way to import on it."""
        more = {"may_import": request.user.has_perms((CHANGE, "newsletter.add_issue"))}
        return super().changelist_view(request, {**more, **(extra_context or {})})

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Issue | None = None,
    ) -> HttpResponse:
        """Above the form the issue's state and what may be done, below it what readers will see. One button to save,
        which stays here: an author saves often."""
        context |= {"show_save_and_continue": False, "show_save_and_add_another": False}
        if obj:
            # A form that was refused has left its values in `obj`; around it stands what is saved.
            context |= self._around(request, self._rows().get(pk=obj.pk) if request.method == "POST" else obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def response_add(self, request: HttpRequest, obj: Issue, post_url_continue: str | None = None) -> HttpResponse:
        """On to its sections."""
        if "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        messages.success(request, f"“{obj}” is begun. Write its first section, then save.")
        return HttpResponseRedirect(reverse("admin:newsletter_issue_change", args=[obj.pk]))

    def response_change(self, request: HttpRequest, obj: Issue) -> HttpResponse:
        """Back to the same page, its preview up to date."""
        messages.success(request, "Saved.")
        return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Issue, form: ModelForm[Issue], change: bool) -> None:
        """Save it, also where only sections changed: `updated_at` says when the whole was last saved. A new issue has a
        section to begin with."""
        obj.subject = obj.subject or obj.title
        super().save_model(request, obj, form, change)
        if not change:
            Section.objects.create(issue=obj)

    def _rows(self) -> QuerySet[Issue]:
        return Issue.objects.select_related("newsletter")

    def _around(self, request: HttpRequest, issue: Issue) -> dict[str, Any]:
        dispatch = Dispatch.objects.filter(issue=issue).order_by("-pk").first()
        percent = listing.percent_done([dispatch]).get(dispatch.pk) if dispatch else None
        why_not = editing.why_not_editable(issue)
        content = issue.content()
        may_send = request.user.has_perm(acting.SEND)
        return {
            "issue": issue,
            "state": listing.state_of(dispatch, percent=percent),
            "dispatch_page": sending.dispatch_page(dispatch)
            if dispatch and dispatch.due_at and request.user.has_perm("newsletter.view_dispatch")
            else "",
            "why_not": why_not,
            "may_send": may_send and not why_not,
            "checks": None if why_not else previewing.checks(content),
            "buttons": settling.buttons(request, dispatch),
            "words": sum(wording.count(section.body) for section in content.sections),
            "merge_fields": editing.MERGE_FIELD_HELP,
            "tiers": previewing.tier_choices(),
            "may_write": request.user.has_perm(CHANGE),
        }

    def _frame(self, request: HttpRequest, issue: Issue) -> HttpResponseBase:
        return previewing.frame(issue, previewing.Choice.of(request.GET))

    def _preview(self, request: HttpRequest, issue: Issue) -> HttpResponseBase:
        choice = previewing.Choice.of(request.GET)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": issue,
            "title": "Preview",
            "issue": issue,
            "tiers": previewing.tier_choices(),
            "choice": choice,
        }
        return TemplateResponse(request, "admin/newsletter/issue/preview.html", context)

    def _forms(self, request: HttpRequest, issue: Issue) -> HttpResponseBase:
        seen = outlook.of(issue.newsletter)
        forms = previewing.forms(issue, issue.content(), seen)
        shown, more = forms[: previewing.SHOWN], forms[previewing.SHOWN :]
        context = {"issue": issue, "outlook": seen, "forms": shown, "more": more}
        return TemplateResponse(request, "admin/newsletter/issue/forms.html", context)

    def _send(self, request: HttpRequest, issue: Issue) -> HttpResponseBase:
        return sending.page(request, self, issue)

    def _import(self, request: HttpRequest) -> HttpResponseBase:
        if not request.user.has_perms((CHANGE, "newsletter.add_issue")):
            raise PermissionDenied
        return importing.page(request, self)
