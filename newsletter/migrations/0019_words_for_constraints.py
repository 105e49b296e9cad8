from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('newsletter', '0018_single_messages_are_of_use_for_a_time'),
    ]

    operations = [
        migrations.AlterConstraint(
            model_name='issue',
            name='one_issue_per_number',
            constraint=models.UniqueConstraint(condition=models.Q(('number__isnull', False)), fields=('newsletter', 'number'), name='one_issue_per_number', violation_error_message='Another issue of this newsletter has that number.'),
        ),
        migrations.AlterConstraint(
            model_name='theme',
            name='theme_width_fits_a_mail',
            constraint=models.CheckConstraint(condition=models.Q(('width__gte', 320), ('width__lte', 900)), name='theme_width_fits_a_mail', violation_error_message='A mail is 320 to 900 pixels wide.'),
        ),
    ]
