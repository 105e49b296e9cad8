from django.db import migrations, models

COUNT = """
    UPDATE newsletter_dispatchprofile SET readers = counted.number
    FROM (SELECT profile_id, count(*) AS number FROM newsletter_delivery GROUP BY profile_id) counted
    WHERE counted.profile_id = newsletter_dispatchprofile.id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('newsletter', '0015_accepts_and_restorations'),
    ]

    operations = [
        migrations.AddField(
            model_name='dispatchprofile',
            name='readers',
            field=models.PositiveIntegerField(default=0, help_text='How many deliveries the snapshot gave it.'),
        ),
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
