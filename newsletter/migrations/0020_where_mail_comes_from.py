from itertools import islice
from typing import Any

from django.db import migrations, models


def fill(apps: Any, schema_editor: Any) -> None:
    dispatches = apps.get_model('newsletter', 'Dispatch').objects
    rows = dispatches.order_by('pk').values_list('pk', 'revision__data__from_address').iterator()
    while chunk := list(islice(rows, 500)):
        by_domain: dict[str, list[int]] = {}
        for pk, address in chunk:
            by_domain.setdefault((address or '').rpartition('@')[2].lower(), []).append(pk)
        for domain, pks in by_domain.items():
            dispatches.filter(pk__in=pks).update(sender_domain=domain)


class Migration(migrations.Migration):

    dependencies = [
        ('newsletter', '0019_words_for_constraints'),
    ]

    operations = [
        migrations.AddField(
            model_name='dispatch',
            name='sender_domain',
            field=models.CharField(blank=True, default='', help_text='Where its mail comes from, as its revision has it.', max_length=255),
        ),
        migrations.AlterField(
            model_name='dispatch',
            name='breached',
            field=models.BooleanField(default=False, help_text='Stopped for a breach, or told of one later.'),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
