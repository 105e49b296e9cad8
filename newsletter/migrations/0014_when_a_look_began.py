from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("newsletter", "0013_bounce_mailboxes")]

    operations = [
        migrations.AddField(model_name="mark", name="begun_at", field=models.DateTimeField(null=True)),
    ]
