from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('newsletter', '0016_readers_by_profile'),
        ('subscribers', '0003_what_readers_agree_to'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('status', 'sent')), fields=['dispatch'], name='delivery_sent'),
        ),
    ]
