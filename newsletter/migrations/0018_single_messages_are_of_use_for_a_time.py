from datetime import timedelta
from typing import Any

from django.db import migrations, models
from django.db.models import F


def fill(apps: Any, schema_editor: Any) -> None:
    """Those made before are taken to be of use for as long as the longest link, and of those that were paused, which
    nobody could resume, the next tick skips what is left."""
    singles = apps.get_model('newsletter', 'Dispatch').objects.filter(kind='single')
    singles.update(useful_until=F('created_at') + timedelta(days=14))
    singles.filter(status='paused').update(status='cancelled', finished_at=None)


class Migration(migrations.Migration):

    dependencies = [
        ('newsletter', '0017_count_of_sent'),
    ]

    operations = [
        migrations.AddField(
            model_name='dispatch',
            name='useful_until',
            field=models.DateTimeField(help_text='Of a single message: until when whoever asked for it can use it.', null=True),
        ),
        migrations.AlterField(
            model_name='delivery',
            name='reason',
            field=models.CharField(blank=True, default='', help_text='Why it was skipped, or is kept back.', max_length=20),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
