from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('newsletter', '0020_where_mail_comes_from'),
        ('subscribers', '0004_words_for_constraints'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('reason', 'sender'), ('status', 'queued')), fields=['put_off_at', 'id'], name='delivery_kept_back'),
        ),
    ]
