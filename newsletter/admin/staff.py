"""The people who work here, and their roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth import admin as auth
from django.contrib.auth.models import Group, User
from django.http import HttpRequest

from newsletter import roles
from newsletter.admin import base

if TYPE_CHECKING:
    from django.contrib.auth.admin import GroupAdmin as ThemedGroupAdmin
    from django.contrib.auth.admin import UserAdmin as ThemedUserAdmin
else:

    class ThemedUserAdmin(auth.UserAdmin, base.ModelAdmin[base.Row]): ...

    class ThemedGroupAdmin(auth.GroupAdmin, base.ModelAdmin): ...


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(ThemedUserAdmin[User]):
    """Accounts: who may sign in, and with which role."""

    form = base.UserChangeForm  # type: ignore[assignment]
    add_form = base.UserCreationForm
    change_password_form = base.PasswordChangeForm
    list_display = ("username", "email", "first_name", "last_name", "is_superuser", "is_active")
    list_filter = ("groups", "is_superuser", "is_active")
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password", "first_name", "last_name", "email")}),
        ("What they may do", {"fields": ("is_active", "is_staff", "groups", "is_superuser")}),
        ("When", {"fields": ("last_login", "date_joined")}),
    )

    def formfield_for_manytomany(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Roles to tick. What somebody may do stands in roles alone."""
        field = super().formfield_for_manytomany(db_field, request, widget=base.CheckboxSelectMultiple(), **kwargs)
        if field is not None:
            field.label, field.help_text = "Roles", ""
        return field


@admin.register(Group)
class GroupAdmin(ThemedGroupAdmin):
    """Roles and what each may do. Those of `newsletter.roles` are to be looked at: they are set at every migration."""

    fields = ("name", "permissions")
    filter_horizontal = ()

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        """Permissions to tick."""
        field = super().formfield_for_manytomany(db_field, request, widget=base.CheckboxSelectMultiple(), **kwargs)
        if field is not None:
            field.help_text = ""
        return field

    def get_fields(self, request: HttpRequest, obj: Group | None = None) -> tuple[str, ...]:
        """For a role that is only looked at, its permissions as a list."""
        return self.fields if self.has_change_permission(request, obj) else ("name", "may")

    def get_readonly_fields(self, request: HttpRequest, obj: Group | None = None) -> tuple[str, ...]:
        """The list of permissions is written by us."""
        return ("may",)

    @admin.display(description="permissions")
    def may(self, group: Group) -> str:
        """What the role may do, in Django's words."""
        return ", ".join(group.permissions.order_by("codename").values_list("name", flat=True))

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Not for a role that would be set back."""
        return super().has_change_permission(request, obj) and not (obj and obj.name in roles.ROLES)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Not for a role that would come back."""
        return super().has_delete_permission(request, obj) and not (obj and obj.name in roles.ROLES)
