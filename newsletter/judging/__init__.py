"""Who made a hit: a person, a machine, or nobody can tell; and why. Pure: plain values in, plain values out.

    judge(hit)            one hit by what its request says, at once
    judge_all(hits)       hits of many deliveries together: besides, what their times say of each other

`judge_all` never needs more than the hits themselves, so a hit can be judged anew as often as others come or rules
change. Every judgement has its reasons; `SENTENCES` says each in words for the author. What the rules stand on:

- Apple and Gmail fetch pictures before anybody reads: by a bare agent, and by one exact agent. Gmail's and Yahoo's
  picture proxies fetch when a person opens.
- Link scanners hide behind the agents of browsers. What gives them away is a sweep: many links of one mail within
  seconds, a median of 43 seconds after delivery, nearly all within half an hour, after an open of their own.
- Where the evidence is thin the answer is UNKNOWN. Whoever counts people leaves those out, and says how many they are.
"""

from newsletter.judging.crowds import judge_all
from newsletter.judging.facts import CLICK, OPEN, Facts, Judged, Judgement
from newsletter.judging.reasons import SENTENCES, Reason, sentences
from newsletter.judging.single import judge

__all__ = [
    "CLICK",
    "OPEN",
    "SENTENCES",
    "Facts",
    "Judged",
    "Judgement",
    "Reason",
    "judge",
    "judge_all",
    "sentences",
]
