"""What every page of the admin stands on. The only place that names the theme: change it here and nowhere else.

`ModelAdmin`, `StackedInline` and `TabularInline` carry the theme and what we hold for all pages; `LargeModelAdmin` is
for tables that grow with the readers: nothing on its pages counts rows or skips over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.forms.utils import pretty_name
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from newsletter import counting

__all__ = [
    "BoundedPaginator",
    "ChangeList",
    "CheckboxSelectMultiple",
    "ColourInput",
    "KeysetChangeList",
    "LargeModelAdmin",
    "ModelAdmin",
    "PasswordChangeForm",
    "StackedInline",
    "TabularInline",
    "TextInput",
    "UserChangeForm",
    "UserCreationForm",
]

Row = TypeVar("Row", bound=Model)
Parent = TypeVar("Parent", bound=Model)

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as ThemedModelAdmin
    from django.contrib.admin import StackedInline as ThemedStackedInline
    from django.contrib.admin import TabularInline as ThemedTabularInline
    from django.contrib.admin.views.main import ChangeList as ThemedChangeList
    from django.contrib.auth.forms import AdminPasswordChangeForm as PasswordChangeForm
    from django.contrib.auth.forms import UserChangeForm, UserCreationForm
    from django.forms import CheckboxSelectMultiple, TextInput
    from django.forms import TextInput as ColourInput
else:
    from unfold import admin as theme
    from unfold.forms import AdminPasswordChangeForm as PasswordChangeForm
    from unfold.forms import UserChangeForm, UserCreationForm
    from unfold.views import ChangeList as ThemedChangeList
    from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget as CheckboxSelectMultiple
    from unfold.widgets import UnfoldAdminColorInputWidget as ColourInput
    from unfold.widgets import UnfoldAdminTextInputWidget as TextInput

    # The theme's classes take no type parameters, ours do.
    class ThemedModelAdmin(theme.ModelAdmin, Generic[Row]): ...

    class ThemedStackedInline(theme.StackedInline, Generic[Row, Parent]): ...

    class ThemedTabularInline(theme.TabularInline, Generic[Row, Parent]): ...


class ChangeList(ThemedChangeList):
    """A list with the number of its rows below it, and not beside its title as well."""

    def get_results(self, request: HttpRequest) -> None:
        """The rows of this page."""
        super().get_results(request)
        self.full_result_count = self.result_count


class ModelAdmin(ThemedModelAdmin[Row]):
    """A model's pages. Nothing is counted per filter, and unsaved changes are not left by accident.

    `nothing_yet` is what an empty list says: what will stand there, and how it comes there.
    """

    nothing_yet = ""
    show_facets = ShowFacets.NEVER
    show_full_result_count = False
    list_per_page = 50
    warn_unsaved_form = True

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ThemedChangeList]:
        """The list that says once how many rows it has."""
        return ChangeList


class StackedInline(ThemedStackedInline[Row, Parent]):
    """Rows of another model below a form, one under the other. `ordering_field` makes them draggable."""

    extra = 0


class TabularInline(ThemedTabularInline[Row, Parent]):
    """Rows of another model below a form, as a table. `ordering_field` makes them draggable."""

    extra = 0
    hide_title = True  # its columns say it

    def get_formset(self, request: HttpRequest, obj: Parent | None = None, **kwargs: Any) -> Any:
        """A formset whose fields have names of their own: a column's title is none to whoever hears the page."""
        formset = super().get_formset(request, obj, **kwargs)
        for name, field in formset.form.base_fields.items():
            widget: Any = getattr(field.widget, "widget", field.widget)  # within what adds to it
            widget.attrs.setdefault("aria-label", field.label or pretty_name(name))
        return formset


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than FARTHEST rows: what is beyond them is found by searching, not by turning pages."""

    FARTHEST = 1000

    @cached_property
    def count(self) -> int:
        """The number of rows, or FARTHEST where there are more."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by().values_list("pk")[: self.FARTHEST].count()


class KeysetPaginator(Paginator):  # type: ignore[type-arg]
    """Names the template that shows the links to the neighbouring pages."""

    template_name = "admin/keyset_pagination.html"


class KeysetChangeList(ThemedChangeList):
    """Newest first, a page at a time by primary key: page 10,000 costs what page 1 does, and no row is counted.

    `?older=ID` shows what came before that row, `?newer=ID` what came after. `older` and `newer` are the query strings
    of the neighbouring pages, empty where there is none; `total` is the table's size in words, on the unfiltered list.
    """

    OLDER, NEWER = "older", "newer"
    older = newer = total = ""

    def get_filters_params(self, params: Any = None) -> Any:
        """The parameters that filter; where the page begins is none of them."""
        lookups = super().get_filters_params(params)
        for name in (self.OLDER, self.NEWER):
            lookups.pop(name, None)
            self.filter_params.pop(name, None)
        return lookups

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Newest first, whatever was asked for: only the primary key tells the next page from the last one."""
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        """The rows of this page, and whether there are neighbours."""
        newer_than, older_than = _number(request, self.NEWER), _number(request, self.OLDER)
        size = self.list_per_page
        if newer_than is not None:
            rows = list(self.queryset.filter(pk__gt=newer_than).order_by("pk")[: size + 1])
            more_newer, more_older = len(rows) > size, True
            rows = rows[:size][::-1]
        else:
            page = self.queryset if older_than is None else self.queryset.filter(pk__lt=older_than)
            rows = list(page[: size + 1])
            more_newer, more_older = older_than is not None, len(rows) > size
            rows = rows[:size]
        if rows:
            self.newer = self.get_query_string({self.NEWER: rows[0].pk}) if more_newer else ""
            self.older = self.get_query_string({self.OLDER: rows[-1].pk}) if more_older else ""
        if not (self.query or self.get_filters_params()):
            self.total = str(counting.about(self.root_queryset))
        self.result_list = rows
        # Equal, so that the theme does not write "50 results" of a page above a million rows.
        self.result_count = self.full_result_count = len(rows)
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = KeysetPaginator(rows, size)


class LargeModelAdmin(ModelAdmin[Row]):
    """The pages of a table with a million rows.

    Its list is read by primary key, its autocompletion looks no further than `BoundedPaginator.FARTHEST` rows, and its
    actions apply to rows that were ticked, never to all that match. Filters and searches need an index that also gives
    the order, as in `Subscription.Meta.indexes`.
    """

    paginator = BoundedPaginator
    ordering = ("-pk",)
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        """The list that turns its pages by primary key."""
        return KeysetChangeList

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Row], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Run an action on the rows that were ticked; refuse one on everything that matches."""
        if request.POST.get("select_across", "0") != "0":
            self.message_user(request, "Tick the rows one by one: actions on all rows are refused.", messages.ERROR)
            return None
        return super().response_action(request, queryset, *args, **kwargs)


def _number(request: HttpRequest, name: str) -> int | None:
    """The whole number in that parameter of the query string, if there is one that can be a key."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
