"""What is said of the sender, the sending machine and the mail."""

from __future__ import annotations

from newsletter.bounces.phrases.rules import Strength, rule
from newsletter.bounces.verdicts import Cause

# RFC 3463 x.1.7 and x.1.8, x.7.27 (RFC 7505); verification by callout (Exim), Postfix's reject_unknown_sender_domain.
ABOUT_THE_SENDER = (
    rule(
        Cause.SENDER,
        r"sender(?:'s)?(?: (?:e-?mail |mail )?(?:address|domain|host|name|mailbox|id))?(?: [@⌂])?[:,]? (?:is |"
        r"was |has been |has )?(?:rejected|refused|denied|not found|unknown|invalid|does not exist|"
        r"do(?:es)?n't exist|verify|verification|not verified|blocked|not exist|unresolvable|null mx|not accepted|"
        r"unauthenticated|not valid|does not resolve|not allowed here|must|syntax|no mx|has no|is forged|"
        r"disallowed|banned|forbidden)",
        r"(?:invalid|unknown|unverified|unverifiable|bad|forged|fake|illegal|unresolvable|unroutable|unrouteable|"
        r"non-?existent|blocked|banned|could not verify|cannot verify|unable to verify|can't verify|reject(?:ed)?|"
        r"refused|spoofed) (?:the )?(?:the )?(?:envelope[ -])?(?:sender|from|return[ -]path|mail from|"
        r"reverse[ -]path|originator)",
        r"domain of (?:the )?(?:sender|envelope|your)(?: [^ .;]+){0,5}? (?:does not|doesn't|not|unknown|invalid|"
        r"has no)",
        r"(?:envelope[ -]from|mail[ -]?from|return[ -]path|from address|from domain|from header|header from|from:|"
        r"reverse[ -]path|sender domain|sending domain|your (?:domain|address|sender|e-?mail (?:address|domain)|"
        r"return address))(?: [^ .;]+){0,6}? (?:rejected|refused|denied|not found|unknown|invalid|does not|"
        r"doesn't|do not|not (?:exist|resolve|valid|accepted|allowed|permitted)|unresolvable|verify|blocked|"
        r"listed|must|has no|missing|fail\w*)",
        r"(?:fix|check|correct) (?:your )?(?:reverse|sender|envelope)(?:-path)? ?(?:address|domain)?",
        r"access to (?:this|the) mail ?system (?:has been )?(?:rejected|denied) due",
        r"(?:invalid|null|missing|no|bad|unresolvable)(?: [^ .;]+){0,8}? (?:of|for) (?:the |your )?(?:envelope )?"
        r"sender\b",
        r"mail[ -]?from(?: [^ .;]+){0,6}? (?:mis-?match\w*|not match\w*)",
        r"null sender",
        r"not (?:listed as )?(?:an? )?valid sender",
        r"spoof",
        r"impersonat",
        r"backscatter",
        r"sender (?:verif\w+|callout|callback|check)(?: [^ .;]+){0,2}? fail\w*",
        r"(?:callout|callback)(?: [^ .;]+){0,4}? (?:fail\w*|reject\w*)",
    ),
)

# A quota on what a sender may send, or a policy daemon's, is no mailbox that is full: Gmail's "Email quota exceeded for
# this sender", Postfix policy daemons' "Policy Rejection- Quota Exceeded".
ABOUT_HOW_MUCH = (
    rule(
        Cause.RATE,
        r"(?:sender|sending|sends?|outgoing|outbound|relay|daily|hourly|policy rejection)(?: [^ .;]+){0,3}?[ -]+"
        r"(?:quota|limit)",
        r"quota(?: [^ .;]+){0,3}? (?:for|of|by) (?:this |the |your )?(?:sender|sending|ip|domain|client|network|host)",
        r"(?:messages?|e?-?mails?|recipients?) per (?:minute|hour|day)",
        r"(?:frequency|volume) (?:is )?limit\w*",
        r"too many (?:[^ .;]+ ){0,3}?(?:unknown|invalid|bad|wrong|non-?exist\w+|recipients?|addresses|users|rcpts?)\b",
    ),
)

# Names of lists and services that say who may send.
_LISTS = (
    r"spamhaus|spamcop|barracuda ?(?:central|reputation)|sorbs|uceprotect|senderbase|cloudmark|mailspike|abuseat"
    r"|invaluement|senderscore|sender score|surbl|uribl|psbl|backscatterer|0spam|hostkarma|spamrl|spam-?rats|nixspam"
)

# What only a sending machine has: a reverse name, a HELO, a place on a list of bad senders. A server that speaks of it
# has not looked for the mailbox, or does not tell. RFC 7372 x.7.25, RFC 5321 section 4.1.4; lists by RFC 5782.
ABOUT_THE_CLIENT = (
    rule(
        Cause.NO_REVERSE_NAME,
        r"\bptr\b",
        r"reverse[ -](?:dns|lookup|hostname|name|mapping|resol\w+|ip|address|record)",
        r"\brdns\b",
        r"\bfcrdns\b",
        r"in-addr\.arpa",
        r"reverse dns",
        r"(?:cannot|can't|could not|unable to) (?:find|resolve|get)(?: [^ .;]+){0,3}? your (?:host ?name|server|"
        r"reverse|ip)",
        r"(?:your|client|sending|connecting)(?: [^ .;]+){0,3}? (?:host ?name|ip|name)(?: [^ .;]+){0,6}? "
        r"(?:does not resolve|not resolv\w+|doesn't resolve|not match|no (?:dns|valid)|not found|mismatch)",
        r"helo (?:command )?rejected",
        r"(?:helo|ehlo)(?: [^ .;]+){0,5}? (?:invalid|reject\w*|not|does not|must|bad|syntax|name|mismatch|fqdn)",
        r"(?:in|your) (?:helo|ehlo)\b",
        r"need fully[ -]qualified",
        r"(?:dynamic|generic|dial-?up|residential)(?: [^ .;]+){0,3}? (?:ip|address|host|range|pool|dns|hostname|"
        r"client)",
        r"ip name lookup",
        r"mismatch\w* (?:the )?(?:client|sender|sending|connecting) ?ip",
        r"missing dns",
        r"dns (?:entry|record) for (?:your|the (?:ip|sending|client))",
    ),
    rule(
        Cause.REPUTATION,
        rf"(?:{_LISTS})",
        r"(?<!may be )(?:black|block|deny)[ -]?listed(?! by (?:the )?(?:user|recipient))",
        r"\b(?:dns|r|rh|ip)bl\b",
        r"blocked using",
        r"black(?:ed)? ip\b|invalid ip\b",
        r"forgery|due to abuse",
    ),
    # Of a link or a header, not of the recipient.
    rule(Cause.CONTENT, r"contains? (?:an? )?(?:url|link|word)", r"\bin (?:the )?(?:to|from|cc|reply-to):? header"),
    rule(Cause.AUTHENTICATION, r"\bspf\b", r"\bdkim\b", r"\bdmarc\b", r"sender policy framework"),
)

# RFC 7372 (authentication); Gmail, Yahoo and Outlook publish their texts for bulk senders.
ABOUT_THE_MACHINE = (
    rule(
        Cause.AUTHENTICATION,
        r"domainkeys",
        r"\barc (?:seal|validation)",
        r"sender ?id\b",
        r"unauthenticated (?:e-?mail|mail|message)",
        r"not authenticated",
        r"authentication (?:check|result|information|information|failed|failure|checks)",
        r"(?:pass|fail\w*)(?: [^ .;]+){0,2}? authentication",
        r"not (?:a )?(?:permitted|designated|authori[sz]ed) (?:sender|to send (?:mail |e-?mail |messages )?"
        r"(?:from|for|on behalf|as))",
    ),
    rule(
        Cause.REPUTATION,
        r"black[ -]?list(?!\w* (?:user|recipient))",
        r"block[ -]?list",
        r"deny[ -]?list",
        r"black ?hole",
        r"block ?lists?",
        r"\bdnsrbl\b",
        r"real-?time (?:block|black)",
        r"\brbls?\b",
        r"reputation",
        r"(?:listed|found|appears?|is|are) (?:in|on|at|by)(?: [^ .;]+){0,4}? (?:lists?|rbl|dnsbl|blocklist|"
        r"database|sbl|xbl|pbl|blackhole)",
        r"banned sending ip",
        r"banned",
        r"(?:ip|host|client|server|network|range|address|connection|relay|system)(?: [^ .;]+){0,8}? (?:blocked|"
        r"banned|blacklisted|listed|denylisted|block listed)",
        r"blocked (?:using|by|for|due|because|from|ip|-)",
        r"poor (?:ip|domain|sender)",
        r"bad (?:ip|host|neighbo)",
        r"(?:client host|client|host|ip|ip address|server|connection|access|network)(?: [^ .;]+){0,4}? "
        r"(?:rejected|refused|denied|forbidden|not allowed|not accepted|not permitted|not welcome)(?! by)",
        r"access denied",
        r"access (?:from|has been)(?: [^ .;]+){0,5}? (?:denied|blocked|rejected)",
        r"(?:on|from|your|our|this) (?:network|ip)(?: [^ .;]+){0,6}? (?:block|abuse|spam)",
        r"delist",
        r"unblock",
        r"removal (?:from|request)",
        r"not accepting (?:mail|connections|messages) from (?:your|this|ip|host)",
        r"\b(?:con|rtr|rly|hvu|hvc|dyn|dnc|clp|rlc):[a-z]",  # AOL's codes
        r"(?:don't|do not|does not|won't|will not|refuse to) (?:accept|talk|like|take)(?: [^ .;]+){0,4}? "
        r"(?:from )?(?:you|your|this (?:host|ip|server)|ip|host)\b",
        r"temporarily deferred due to (?:user complaints|unexpected volume)",
        r"user complaints",
        r"complaint rate",
        r"not whitelisted",
        r"open (?:relay|proxy)",
        r"infected",
        r"compromised",
        r"botnet",
        r"trojan",
        r"dictionary attack",
        r"harvest",
        r"go away",
        r"ask your postmaster",  # T-Online, of a machine that it does not know
        r"s3140",
        r"s3150",
        r"ts0[1-4]",
        r"\btss\d\d\b",
        r"\b(?:hl|mi|rp|wm):[a-z]{3}\b",  # NetEase's codes
        r"pt\d{2}\b",
        r"bl\d{2,3}\b",
        r"connection to mail server is blocked",
    ),
    rule(
        Cause.RELAY,
        r"relay(?:ing|ed|s)?(?: [^ .;]+){0,5}? (?:denied|not|prohibited|rejected|refused|disabled|forbidden|"
        r"disallowed|blocked|is)",
        r"(?:not|n't|unable|cannot|no|denied|refus\w+|illegal|unauthori[sz]ed|permission)(?: [^ .;]+){0,4}? "
        r"(?:relay|relaying|relayed)\b",
        r"relayaccess",
        r"(?:isn't|not) in my list of allowed",
        r"not (?:a )?(?:gateway|relay)",
        r"rcpthosts",
        r"must (?:authenticate|be authenticated)",
        r"(?:smtp )?auth(?:entication)? (?:is )?(?:required|needed)",
        r"please (?:authenticate|log ?in)",
        r"tenantattribution",
        r"domain (?:is )?not (?:local|allowed|handled|served|accepted)",
    ),
)

ABOUT_THE_MAIL = (
    rule(
        Cause.SIZE,
        r"(?:message|mail|e-?mail|size|length|attachment|content|file|body|data)(?: [^ .;]+){0,5}? "
        r"(?:too (?:large|big)|exceed\w*|over(?:size[d]?)?|larger than|bigger than|"
        r"oversize)(?! (?:your )?rate)",
        r"(?:exceed(?:s|ed)?|over|above|maximum|max|greater than)(?: [^ .;]+){0,5}? (?:message size|size limit|"
        r"mail size|size of|msg size|maximum size|allowed size|length)",
        r"size (?:limit|restriction|exceeds)",
        r"too (?:large|big) (?:message|mail|for)",
        r"message ?(?:is )?larger",
        r"msgsize",
        r"sizelimit",
        r"oversized?",
        r"large message",
    ),
    rule(
        Cause.RATE,
        r"rate[ -]?limit\w*",
        r"throttl\w*",
        r"too (?:many|much)(?! (?:hops|received))(?: [^ .;]+){0,4}? (?:connections?|messages?|mails?|recipients?|"
        r"e-?mails?|sessions|requests|errors|concurrent|traffic|rcpt|smtp|invalid|unknown|bad)",
        r"(?:exceed\w*|over|reached)(?: [^ .;]+){0,5}? (?:rate|connections?|sending limit|message limit|"
        r"per (?:hour|day|minute|second)|hourly|daily|limit on|limits|recipients|volume|limit)",
        r"unusual rate",
        r"sending (?:limits?|quota)",
        r"(?:max(?:imum)?|limit)(?: [^ .;]+){0,4}? (?:per (?:hour|day|connection)|recipients|messages)",
        r"mail flood",
        r"mail ?bomb",
        r"unexpected volume",
    ),
    rule(
        Cause.SPAM,
        r"\bspam\w*",
        r"\bdt:[a-z]{3}\b",  # NetEase's code
        r"\bjunk\b",
        r"unsolicited",
        r"\bu[cb]e\b",
        r"bulk (?:e-?)?mail",
        r"phish\w*",
        r"scam\b",
        r"spamassassin",
        r"bayes\w*",
        r"looks like",
        r"likely (?:suspicious|unsolicited)",
        r"suspicious",
        r"suspected",
        r"high[ -]risk",
        r"advertis\w+",
        r"(?:message|mail|content|score)(?: [^ .;]+){0,4}? (?:score|points)",
        r"aup#",
        r"\baup\b",
        r"fingerprint",
        r"honeypot",
        r"trap\b",
    ),
    rule(
        Cause.CONTENT,
        r"virus(?:es)?\b",
        r"malware",
        r"malicious",
        r"worm\b",
        r"attachments?(?: [^ .;]+){0,5}? (?:not|block|reject|prohibit|forbid|banned|remov|type)\w*",
        r"(?:banned|prohibited|forbidden|blocked|unacceptable|executable|dangerous|disallowed|illegal|restricted|"
        r"offensive|objectionable|inappropriate) (?:attachment|file|content|extension|name|url|link|words?|"
        r"subject|language|header|contents)",
        r"(?:content|body|header|subject|message|url|link|format|mime)(?: [^ .;]+){0,5}? (?:rejected|refused|"
        r"blocked|denied|not accepted|not allowed|unacceptable|prohibited|filtered|forbidden|restricted|violat\w+|"
        r"invalid|malformed|missing|duplicat\w+|filter|disallowed)",
        r"(?:rejected|refused|blocked|denied) (?:for|due to|because of|by)(?: [^ .;]+){0,4}? (?:content|header|"
        r"body|subject|url|link|attachment|filter\w*|virus|mime)",
        r"content[ -]filter",
        r"mime[ /-](?:reject|error|structure)",
        r"invalid (?:structure|header)",
        r"headers?(?: [^ .;]+){0,3}? too (?:long|large|big)",
        r"conversion",
        r"not (?:rfc|compliant)",
        r"rfc[ -]?(?:2?822|5322|5321|compliant|1652)",
        r"8[ -]?bit",
        r"smtputf8",
        r"non-?ascii",
        r"bare (?:lf|cr|line)",
        r"line (?:too )?long",
        r"multiple (?:from|to|header)",
        r"message-id header",
        r"date header",
        r"improper",
        r"poison",
    ),
    rule(
        Cause.POLICY,
        r"polic(?:y|ies)",
        r"prohibited",
        r"security",
        r"violat\w+",
        r"administrative(?:ly)? (?:prohibit\w*|reject\w*|den\w+|block\w*|refus\w*)",
        r"administrator",
        r"administrative prohibition",
        r"local (?:rule|restriction)",
        r"for (?:policy|security|legal|technical) reasons",
        r"rejected by (?:our|the|a|mail|server|transport|organi[sz]ation|company|system|header|"
        r"local)(?: [^ .;]+){0,3}? (?:rule|filter|firewall|gateway|policy|check|milter|agent|content)",
        r"transport\.rules",
        r"not authori[sz]ed",
        r"unauthori[sz]ed",
        r"permission",
        r"not permitted",
        r"not allowed",
        r"forbidden",
        r"quarantin\w*",
        r"milter",
        r"rejected (?:by|for)",
        r"terms of (?:service|use)",
        r"(?:message|mail|e-?mail|delivery|transaction|submission|you|your message)(?: [^ .;]+){0,4}? (?:was |"
        r"been |is |are )?(?:blocked|refused|denied|declined|filtered|prevented|discarded)",
        r"blocked",
        r"firewall",
        strength=Strength.VAGUE,
    ),
    rule(
        Cause.PROTOCOL,
        r"syntax error",
        r"command (?:not (?:recogni[sz]ed|implemented|allowed|accepted)|unrecogni[sz]ed|unknown|rejected|"
        r"out of sequence)",
        r"bad (?:sequence|command|syntax)",
        r"unrecogni[sz]ed command",
        r"protocol (?:error|violation)",
        r"improper (?:command|use)",
        r"pipelining",
        r"nested mail",
        r"bad parameter",
        r"unimplemented",
        r"(?:invalid|unrecogni[sz]ed|unsupported|illegal) parameters?",
        strength=Strength.VAGUE,
    ),
)
