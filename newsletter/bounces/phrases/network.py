"""What is said of the way to a mailbox: names, connections, time, and what broke there."""

from __future__ import annotations

from newsletter.bounces.phrases.rules import Strength, rule
from newsletter.bounces.verdicts import Cause

# Words between a host or domain and what is said of it.
_NAMED = (
    r"(?: (?:name|part|of|the|this|that|recipient|recipient's|address|you|entered|specified|given|for|in"
    r"|server|or|mail|to"
    r"|which|mx|your|message|was|were|addressed|sent|domain|host|hosts|record|⌂|@):?){0,6}"
)

# A name server that did not answer says nothing about the name: RFC 1034's "temporary failure", against NXDOMAIN.
WHILE_LOOKING_UP = (
    rule(
        Cause.NETWORK,
        r"(?:host ?name|dns|name ?server|mx|domain|name|host)(?: [^ .;]+){0,3}? (?:look-?up|query|resolution|"
        r"server)(?: [^ .;]+){0,3}? (?:temporar\w+|tim(?:ed|e) ?out|did not complete|deferred|servfail|try again|"
        r"soft error)",
        r"name server (?:timeout|: host: (?:host )?name lookup failure)",
        r"host ?name lookup failure",
        r"unverified address",  # Postfix asked the next server and had no answer yet
        r"lookup (?:did not complete|deferred)",
        r"temporary (?:failure in name resolution|dns|name ?server|lookup)",
        r"servfail",
        r"transient dns",
        r"cname lookup failed temporarily",
        r"host not found, try again",
        r"(?:verification|look-?up|check)(?: [^ .;]+){0,3}? temporar\w+|gr[ae]y-? ?list",
        # The server could not ask whether there is such a mailbox, whatever code it gives.
        r"(?:ldap|directory|database|sql)(?: [^ .;]+){0,4}? (?:not reachable|unreachable|unavailable|not available|"
        r"down|timed? ?out|temporar\w+)",
        r"connect(?:ing|ion)? to(?: [^ ;]+){1,4}? connection (?:refused|reset|timed out)",
        r"connection refused ?(?:message=|socket|winsock)|socket error",
        r"try again later.{0,20}dns",
    ),
    rule(
        Cause.NETWORK,
        r"(?:connection|connect|session)(?: [^ .;]+){0,4}? (?:refused|tim(?:ed|e)[ -]?out|reset|dropped|closed|"
        r"lost|failed|aborted|interrupted|broken)",
        r"(?:refused|reset|dropped|closed|lost|aborted|timed out) (?:the |your )?(?:connection|conversation|session)",
        r"no route to host",
        r"network (?:is )?unreachable",
        r"host (?:is )?(?:unreachable|down|not reachable|not responding)",
        r"(?:could not|couldn't|cannot|can't|unable to|failed to|wasn't able to) (?:establish|connect|contact|"
        r"reach|open)(?: [^ .;]+){0,6}? (?:connection|host|server|smtp|mx|mail exchanger|domain|@|ip)",
        r"unreachable",
        r"econnrefused",
        r"etimedout",
        r"\bloop(?:s|ing)?\b",
        r"too many (?:hops|received)",
        r"hop count",
        r"starttls",
        r"tls (?:handshake|negotiation|is required|required)",
        r"certificate (?:verif|expired|invalid)",
        r"sts policy",
        r"dane\b",
        strength=Strength.VAGUE,
    ),
)

# RFC 3463 x.1.2, RFC 5321 section 5, RFC 7505 (null MX), RFC 7504 (521, 556).
NO_DOMAIN = (
    rule(
        Cause.NO_MAIL_HERE,
        r"null ?mx",
        r"(?:domain|host|server|system|⌂)(?: [^ .;]+){0,5}? (?:does not|doesn't|never|do not) (?:accept|receive|"
        r"take|handle) (?:any )?(?:e?-?mails?|messages?)\b(?! (?:from|with|without|for|to|that|containing|larger|over|"
        r"via|at this time|now|until|of)\b)",
        r"no mail service",
        r"record indicated no (?:smtp|mail)",
        r"not configured to (?:receive|accept) (?:e-?)?mail",
        r"no mail is accepted",
        r"does not have an e-?mail service",
    ),
    rule(
        Cause.NO_DOMAIN,
        r"(?:unknown|no such|invalid|non-?exist[ea]nt|bad|unresolvable|illegal|unrouteable|unroutable) "
        r"(?:mail |destination |target |e-?mail |recipient |remote |fully qualified )*"
        r"(?:host(?: ?name)?|domain(?: ?name)?|system|site|mail domain)\b",
        rf"(?:host(?: ?name)?|domain(?: ?name)?|mail exchanger|⌂){_NAMED}[:,]? "
        r"(?:is |was |could ?|can ?)?(?:an? )?(?:unknown(?! (?:user|recipient|mailer|error|problem|reason"
        r"|command|mailbox|address|local))"
        r"|not found|non-?exist[ea]nt|invalid|unresolvable|unrouteable|no such host"
        r"|(?:not|n't) (?:exist|known|valid|resolve|be (?:found|resolved))|(?:does|do)(?: not|n't) (?:exist|resolve))",
        r"(?:could not|couldn't|cannot|can't|unable to|failed to|not able to|wasn't able to) (?:find|resolve|locate"
        rf"|look ?up|determine)(?: (?:an?|any|the|valid|for))*{_NAMED} ?(?:host|domain|mx|a record|dns|mail exchanger"
        r"|mail server|destination|⌂)(?!,? try again)",
        r"(?:host|domain|dns|name|⌂) (?:look ?up|resolution) (?:failed|failure|error)(?! temporar)",
        r"nxdomain",
        r"infodomainnonexistent",  # Exchange Online
        # Outlook.com, of a domain whose name servers have no answer.
        r"(?:domain|⌂) is not reachable|check the (?:domain|host) ?(?:name)?\b",
        r"no mx or a for domain|no (?:mx|a|dns|valid mx|valid|mail)(?: or (?:a|mx|aaaa))? (?:found|records?"
        r"|hosts?|servers?|exchangers?|"
        r"dns records?)",
        r"(?:has |have |with )no (?:mx|mail exchanger|dns|a record|mail server|valid mail)",
        r"all relevant mx records point to non-?existent",
        r"name or service not known",
        r"nodename nor servname",
        r"dns (?:error|failure|lookup failed|name (?:error|does not exist))",
        r"type=(?:mx|a|aaaa)(?: [^ .;]+){0,2}? (?:host|domain) not found",
        r"mx (?:lookup|record)(?: [^ .;]+){0,3}? fail\w*",
        r"domain has no",
        r"domain (?:is )?no longer (?:exists?|valid|registered|active|in use|hosted)",
        r"domain (?:expired|not registered|not hosted|not in use|isn't hosted)",
        r"name service error for name",
    ),
)

# RFC 3463 x.4.7; RFC 5321 section 4.5.4.1.
OUT_OF_TIME = (
    rule(
        Cause.TRY_LATER,
        r"try (?:again|later)",
        r"temporar(?:y|ily)",
        r"please retry",
        r"come back later",
        r"resources temporarily",
        r"deferred",
        r"too busy",
        r"server busy",
        r"system busy",
        r"receiving (?:mail|messages|e-?mail) (?:too quickly|at a rate)",
        strength=Strength.VAGUE,
    ),
    rule(
        Cause.EXPIRED,
        r"(?:delivery|message|mail|retry|queue|max(?:imum)?|retries)(?: [^ .;]+){0,3}? (?:expired|expiration|"
        r"tim(?:ed|e) ?out|timeout|lifetime|time exceeded|time limit|too long|exhausted)",
        r"(?:not|n't)(?: [^ .;]+){0,4}? (?:for|in|within|after)(?: [^ .;]+){0,3}? (?:days?|hours?|attempts|tries)",
        r"retry time",
        r"timed? ?out",
        r"too long in (?:the )?queue",
        r"queue too long",
        r"(?:in (?:the )?queue|queued)(?: [^ .;]+){0,2}? too long",
        r"on (?:the|our) queue",
        r"undeliverable for",
        r"delivery attempts",
        r"unable to deliver(?: [^ .;]+){0,5}? (?:days|hours)",
        strength=Strength.VAGUE,
    ),
)

# RFC 3463 x.3.x; RFC 5321 451 "local error in processing", 452 "insufficient system storage", 554 "transaction failed".
OUT_OF_ORDER = (
    rule(
        Cause.SYSTEM,
        r"(?:system|server|internal|local|configuration|software|unexpected|i/o|disk|database|processing|resource|"
        r"delivery agent|pipe|ldap|storage|backend|mailer|command|script|directory|unknown mailer|"
        r"transport)(?: [^ .;]+){0,3}? (?:error|failure|failed|problem|exception|unavailable|fault|died|"
        r"misconfigured|trouble)",
        r"service (?:is )?(?:currently )?(?:unavailable|not available)",
        r"out of memory",
        r"insufficient (?:system )?(?:storage|resources|disk)",
        r"can'?t create (?:user )?output file",
        r"read-?only file ?system",
        r"no space left",
        r"permission denied",
        r"not enough (?:memory|resources)",
        r"exit(?:ed)?(?: with)? (?:status|code)",
        r"command died",
        r"died with",
        r"could not be delivered to mailbox",
        r"can't write",
        r"lost input channel",
        r"unknown mailer error",
        r"operating system error",
        r"no such file or directory",
        r"cannot append",
        r"unable to (?:open|create|write|lock|chdir|switch)",
        r"mail system (?:configuration|full)",
        strength=Strength.VAGUE,
    ),
)
