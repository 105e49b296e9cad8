"""Readers from a file: `import_file(path, newsletter)`.

    reading   the file as rows: encoding, delimiter, header, what each column means; sees no database
    storing   rows become subscribers, subscriptions and memberships, a transaction for each chunk

The rules, which `reading` and `storing` apply:

- A file that cannot be understood throughout (no text, a broken quote, a tier that does not exist) imports nothing.
  A row whose address is none is left out and listed by its line, without the address.
- The first row of an address counts, later ones are duplicates.
- An import never changes the status of a subscription that exists, and subscribes no suppressed address.
- A name in the file replaces the one there was, an empty one does not. A tier in the file is a paid membership for
  whoever holds a lower one; nothing lowers a tier.
- So the same file twice changes nothing the second time.
"""

from subscribers.importing.reading import MAX_BYTES, MAX_ROWS, ImportRefused
from subscribers.importing.storing import Report, import_file

__all__ = ["MAX_BYTES", "MAX_ROWS", "ImportRefused", "Report", "import_file"]
