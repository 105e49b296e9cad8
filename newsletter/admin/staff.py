"""The people who work here, and their roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth import admin as auth
from django.contrib.auth.models import Group, User

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


@admin.register(Group)
class GroupAdmin(ThemedGroupAdmin):
    """Roles and what each may do; `newsletter.roles` makes the first three."""
