"""A sample issue: something of everything that a theme has to carry."""

from __future__ import annotations

from newsletter.content import Audience, AudienceKind, SectionContent, WhenLocked

_LEAD = """\
Hello {{ name|default:"there" }},

this is what an issue looks like in these colours: running text with a [link](https://example.org/) and **strong
words**.

[Become a member]({{ upgrade_url }}){.button}
"""
_STORY = """\
> Whoever reads by lamplight chooses the lamp with care.

- a list with one line
- and another that is long enough to turn over into the next one on a phone

| Lamp | Reads well |
|---|---:|
| Candle | 40 % |
| Oil | 70 % |

### A smaller heading

```python
def light(lamp: str) -> bool:
    return lamp != "out"  # a comment
```

***

What comes after a rule, with some `code` in it.
"""

SECTIONS = (
    SectionContent(heading="", body=_LEAD),
    SectionContent(heading="Story of the week", body=_STORY),
    SectionContent(
        heading="For members",
        body="",
        audience=Audience(AudienceKind.FROM_TIER, 1),
        when_locked=WhenLocked.TEASE,
    ),
)
