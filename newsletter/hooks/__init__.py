"""Outgoing webhooks: the author's own systems are told what happened.

`occurring`: a change is written down as a row, in its own transaction  ->  `turns`: a worker claims a hook, then call
after call  ->  `payload` says what is told, `signing` proves who says it, `destinations` where it may go, `calling`
makes the request  ->  `turns` notes what came of it. `tidying` forgets it after a month.
"""
