"""A local SMTP server that delivers to nobody, and a page to read what it was given.

`server` (started by `manage.py mailbox_server`) takes every mail and puts it into a `store`, an SQLite file of its own
beside the database. `views` show that file under /mailbox/ wherever MAILBOX_PATH names it; `reading` takes
the mails apart for them and expects any of them to be broken.
"""
