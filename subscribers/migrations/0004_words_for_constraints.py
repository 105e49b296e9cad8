from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('subscribers', '0003_what_readers_agree_to'),
    ]

    operations = [
        migrations.AlterConstraint(
            model_name='membership',
            name='membership_ends_late',
            constraint=models.CheckConstraint(condition=models.Q(('ends_at', None), ('ends_at__gte', models.F('starts_at')), _connector='OR'), name='membership_ends_late', violation_error_message='A membership cannot end before it begins.'),
        ),
    ]
