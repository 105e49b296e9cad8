"""What is said of a mailbox: gone, full, closed, restricted."""

from __future__ import annotations

from newsletter.bounces.phrases.rules import Strength, rule
from newsletter.bounces.verdicts import Cause

_BOX = (
    r"(?:mail ?box|account|in-?box|user|recipient|addressee|address|alias|login|id"
    r"|e-?mail(?: (?:account|address|box))?)(?:e?s)?"
)

# Words between a mailbox and what is said of it; where another subject begins, the thought is over.
_WORDS = (
    r"(?: @:?| (?!(?:sender|from|domain|host|client|because|due|since|reason|error|policy|your|server|command"
    r"|header|content"
    r"|attachment|and|but|if|unless|which|may|might|ip|⌂|without|message|mail|relay|spam|virus)\b)[^ .;:]+){0,5}?"
)

# RFC 3463 x.2.2; RFC 5321 552 "exceeded storage allocation". Gmail: "out of storage space"; Exchange: "mailbox is
# full", STOREDRV quota; Dovecot and Cyrus: "quota exceeded", "over quota"; Yahoo: "over quota".
FULL = (
    rule(
        Cause.FULL,
        r"(?:over|exceed(?:s|ed|ing)?|exceeding|above|beyond|reached|out of|insufficient|no more|"
        r"hit)(?: [^ .;]+){0,5}? (?:quota|disk ?space|storage|mailbox size|mailbox limit)\b(?! of (?:messages|"
        r"mails))",
        r"\bover[ -]?quota\b|\boverquota\b|quotaexceeded|quota_exceeded|mailboxfull",
        r"quota(?: [^ .;]+){0,4}? (?:exceeded|reached|full|exhausted|violat\w+|would be exceeded|is over)",
        r"quota (?:limit|violation)",
        r"(?:mail ?box|in-?box|mailfolder|mail ?drop|maildir|mail folder|account|box|"
        r"message store)(?: [^ .;]+){0,4}? (?:is |was |are |be |currently |too |already )?full\b",
        r"\bover-?full\b",
        r"(?:user|recipient|mail ?box|account) (?:is )?over (?:its |the |his )?(?:hard |soft |size )?limit",
        r"\bfull (?:mail ?box|inbox)",
        r"(?:storage|mailbox|disk|space|maildir)(?: [^ .;]+){0,3}? (?:limit|allocation|capacity|allowance|"
        r"allotment|allowed)(?: [^ .;]+){0,4}? (?:exceeded|reached|exhausted|full)",
        r"(?:exceed(?:s|ed)?|exhausted|used up)(?: [^ .;]+){0,5}? (?:storage|mailbox|disk|allotted|"
        r"allowed (?:disk )?space|allocation|space)",
        r"(?:not|no|without) (?:have )?(?:enough|sufficient|any)? ?(?:free )?(?:disk |storage |mailbox |"
        r"mail )?space (?:left |remaining |available )?(?:in|for|on|to)\b",
        r"user has too many (?:messages|mails)",
        r"error writing message: file too large",  # Postfix, of a mailbox at its limit
        r"too many (?:messages|mails) (?:in|on|for) (?:this|the|that|his|her|their) (?:mail ?box|account|user|inbox)",
        r"mailbox (?:has |is )?(?:exceeded|over|at) (?:its|the|it's)? ?(?:limit|size|maximum|capacity|max)",
        r"maildir (?:delivery failed|over)|user'?s? (?:disk|mailbox) (?:is )?(?:quota|full)",
        r"would exceed (?:the )?(?:mailbox|quota|recipient)|account is at (?:its )?(?:capacity|limit)",
    ),
)

# RFC 3463 x.2.1. An account that is switched off may be switched on again, unlike one that was deleted: soft.
CLOSED = (
    rule(
        Cause.DISABLED,
        rf"{_BOX}(?: [^ .;]+){{0,5}}? (?:suspended|deactivated|de-activated|disabled|inactive|locked|frozen|"
        rf"on hold|expired|dormant|not active|not activated|not enabled|blocked due to inactivity|inactivated|"
        rf"unavailable due to inactivity)",
        r"(?:suspended|deactivated|disabled|inactive|locked|frozen|expired|dormant|unactivated) (?:mail ?box|"
        r"account|user|recipient|e-?mail|address|domain)",
        r"(?:mail ?box|account|user)(?: [^ .;]+){0,3}? temporarily (?:closed|unavailable|blocked|locked|"
        r"out of service)",
        r"(?:has not|hasn't) (?:been )?(?:used|logged in|accessed|checked)(?: [^ .;]+){0,6}? (?:days|weeks|months|"
        r"long|year)",
        r"has been (?:idle|unused) (?:for )?too long",
        r"due to (?:extended )?inactivity",
        r"not been activated",
        r"(?:receiving|reception|delivery) (?:is |has been )?disabled",
        r"account hangup",
        r"user hangup",
        r"unpaid",
        r"non-?payment",
        r"domain (?:is |has been )?(?:suspended|disabled|deactivated|parked)",
        r"mail service (?:for this domain )?(?:is )?(?:suspended|disabled)",
    ),
)

# RFC 3463 x.2.1 "not accepting messages", x.7.2. Exchange's restrictions, "requires sender authentication" and so on;
# Japanese mobile networks filter by the reader's own list.
RESTRICTED = (
    rule(
        Cause.RECIPIENT_REFUSES,
        r"(?:not|n't|no longer|refus\w+ to|only) (?:currently )?(?:accept|accepting|receive|receiving|"
        r"accepts) (?:e?-?mails?|messages?|any)(?: [^ .;]+){0,4}? (?:from|at this address)",
        r"(?:user|recipient|mailbox|account|addressee|customer|subscriber|person|@)(?: [^ .;]+){0,4}? (?:not|n't|"
        r"no longer|refus\w+|declin\w+)(?: [^ .;]+){0,2}? (?:accept|receive|want)\w*(?: [^ .;]+){0,3}? "
        r"(?:e?-?mails?|messages?)",
        r"(?:refused|rejected|declined|blocked|filtered|denied) by (?:the |its |your )?(?:recipient|addressee|"
        r"user|owner|receiver|mailbox owner)",
        r"recipient(?:'s)? (?:has |is )?(?:refus|reject|declin|block)(?:es|ed|ing|s)(?: [^ .;]+){0,3}? (?:mail|"
        r"message|sender|you|your)",
        r"(?:delivery|mailbox|address|group|distribution list|recipient)(?: [^ .;]+){0,3}? (?:restrict(?:ed|ion|"
        r"ions)|is restricted|not authori[sz]ed)",
        r"(?:sender|you|your address|your account)(?: [^ .;]+){0,3}? (?:not (?:allowed|authori[sz]ed|permitted)|"
        r"n't (?:allowed|have permission|authori[sz]ed)|do not have permission)(?: [^ .;]+){0,4}? (?:send|post|"
        r"mail|write|email|e-mail|deliver)(?: [^ .;]+){0,3}? (?:to (?:this|the|that)|recipient|list|group|user|"
        r"mailbox|@)",
        r"(?:requires?|require) (?:that )?(?:the |all )?(?:senders?|sender authentication)(?: [^ .;]+){0,3}? "
        r"(?:authenticated|authentication|authori[sz]ed)",
        r"requires sender authentication",
        r"authentication required for (?:relay|recipient|delivery)",
        r"authenticationrequired",
        r"(?:only|unless)(?: [^ .;]+){0,6}? (?:white ?list|address book|contacts?|known senders|approved senders|"
        r"internal senders|members?|subscribers?)\b",
        r"deliver(?:y)? ?restriction",
        r"restrictdomainrecipients",
        r"resolver\.rst(?!\.\w*size)",
        r"not on (?:my|the|his|her) (?:white ?list|guest list|list of)",
        r"(?:posts|mail|messages) from members",
        r"(?:moderated|closed|private|members?-only) (?:group|list)",
        r"submission (?:rejected|not allowed) for (?:this )?list",
        r"(?:local|internal) (?:users?|mail|use|senders?|only)(?: [^ .;]+){0,2}? only",
        r"only (?:for )?(?:local|internal) (?:users|senders|mail)",
    ),
)

# RFC 3463 x.1.1, x.1.3, x.1.6. Postfix: "user unknown in … table"; Sendmail: "user unknown"; Exim: "unrouteable
# address"; Exchange: RESOLVER.ADR.RecipNotFound; Gmail: NoSuchUser, "does not exist"; Yahoo: "doesn't have a yahoo.com
# account"; Mail.ru, Yandex, GMX and T-Online say the same in their own words.
GONE = (
    rule(
        Cause.MOVED,
        rf"{_BOX}{_WORDS} (?:has|have|was|were) moved",
        r"mailbox moved",
        r"moved (?:to|and left) (?:a )?(?:new|another|no|different)",
        r"has changed (?:his|her|its|their|the) e?-?mail",
        r"changed (?:to|their) (?:a )?new (?:e-?mail )?address",
        r"please (?:use|update|send)(?: [^ .;]+){0,3}? new (?:e-?mail )?address|new (?:e-?mail )?address is",
        r"user not local; please try|relocated",
    ),
    rule(
        Cause.NO_MAILBOX,
        r"(?:no|not (?:a|an)(?: known)?|isn't (?:a|an)) (?:such|valid|known|existing|matching|local|active)? "
        r"?(?:local |mail |e-?mail |smtp )?(?:user|mail ?box|account|recipient|address|person|alias|name|"
        r"addressee|customer|subscriber|id|employee|object|member|dropbox|local part|localpart)\b(?! (?:was|is|"
        r"has|to|provided|specified|given|record))",
        r"(?<!too many )(?:unknown|invalid|nonexist[ea]nt|non-exist[ea]nt|non exist[ea]nt|no-such"
        r"|unrecogni[sz]ed|bad|incorrect|"
        r"wrong|illegal|fictitious|undefined|unassigned)(?: or (?:illegal|invalid|missing|unknown|disabled))? "
        r"(?:local |mail |e-?mail |e mail |smtp |final |delivery |destination |forward |receiver |envelope |rcpt |"
        r"to )*(?:user|user ?name|mail ?box|account|recipient|address(?:ee)?|rcpt|alias|local[ -]?part|receiver|"
        r"person|mailbox address|user id|userid|destination)\b(?! (?:syntax|format))",
        rf"{_BOX}{_WORDS}[:,-]? (?:is |are |was |were )?(?:an? )?"
        rf"(?:currently |probably |completely )?(?:unknown|invalid|nonexist[ea]nt|non-exist[ea]nt|unrecogni[sz]ed|"
        rf"not known|not recogni[sz]ed|unrouteable|undeliverable|not found|not exist(?:ing)?|not valid|not listed|"
        rf"not registered|not defined|not be found|not be located|unlisted|misspelled|notfound|not available here|"
        rf"not local|not ours|no such|not here)",
        rf"{_BOX}{_WORDS} (?:do(?:es)?(?: not|n't)|did(?: not|n't)) (?:seem to |appear to |"
        rf"actually )?exist",
        r"(?:do(?:es)?(?: not|n't)) (?:seem to |appear to )?exist(?:s)?\b(?=.{0,40}(?:here|mailbox|user|account|"
        r"address|recipient|on this (?:server|system)))",
        r"(?:that you tried to reach|@|user|account|address|mailbox|recipient)(?: [^ .;]+){0,3}? (?:do(?:es)?"
        r"(?: not|n't)|no longer|not) exists?\b",
        rf"{_BOX}{_WORDS} (?:has been|was|is|been) (?:deleted|removed|closed|terminated|cancell?ed|"
        rf"discontinued|withdrawn|decommissioned|retired|purged|abandoned)",
        rf"{_BOX}{_WORDS} (?:is |are )?(?:no longer|not any ?more|is not longer) (?:available|valid|"
        rf"active|in use|used|exist\w*|here|on (?:this |our |the )?(?:server|system)|with (?:us|the company|this)|"
        rf"work\w*|employed|monitored|supported|a (?:valid|member|customer)|an? \w+|at this|maintained|served|"
        rf"in (?:service|operation)|associated|present)",
        r"(?:no longer (?:works?|employed) (?:here|for|at|with)|has left (?:the|our|this) (?:company|"
        r"organi[sz]ation|university|firm)|left (?:the |our |this )?(?:company|organi[sz]ation))",
        r"(?:doesn't|does not|don't|do not) have (?:an? )?(?:[^ .;]+ ){0,2}?(?:account|mailbox|user|"
        r"e-?mail address)\b",
        r"(?:could not|couldn't|cannot|can't|unable to|not able to|failed to) (?:find|locate|identify|"
        r"recogni[sz]e|match|resolve|verify)(?: [^ .;]+){0,4}? (?:recipient|mailbox|user|account|addressee|"
        r"address|@|alias|inbox|person)\b",
        r"(?:recipient|user|mailbox|account|address|@)(?: [^ .;]+){0,3}? (?:could not|couldn't|cannot|can't|"
        r"can not|wasn't|was not|weren't|not) (?:be )?(?:found|located|identified|recogni[sz]ed|matched)",
        r"(?:not|n't) (?:listed|found|registered|known)(?: [^ .;]+){0,3}? (?:in|on|at|to) (?:the |our |this |my )?"
        r"(?:[^ .;]+ )?(?:directory|address ?book|name and address|public nab|user (?:list|database|table)|domain|"
        r"server|system|notes|ldap|recipient (?:table|map|list))",
        r"unknown in (?:the )?(?:[^ .;]+ )?(?:local |virtual |relay )?(?:recipient|mailbox|alias|user|table)",
        r"recipnotfound",
        r"recipientnotfound",
        r"nosuchuser",
        r"resolver\.adr\.(?:recip|expired|inv|ex|bad)",
        r"recipient\.notfound",
        r"unknown-user",
        r"user-unknown",
        r"userunknown",
        r"unknownuser",
        r"nouser\b",
        r"did not (?:exactly )?match|no match(?:es)? (?:to|for|in|found)|fails? to locate",
        r"(?:mailbox|account) (?:closed|deleted|removed|terminated)(?! (?:for|until|temporarily)\b)",
        # Amazon SES, of an address that bounced before, at anybody's or at ours; "your address" would be the sender's.
        r"(?<!your )(?<!sender )(?<!ip )address(?: [^ .;]+){0,3}? (?:is|was) on (?:the |our )?(?:[^ .;]+ ){0,2}?"
        r"suppression list|history of bouncing",
        r"not in my validrcptto",
        r"(?:not|n't) know (?:this|that|any|such an?) (?:user|recipient|mailbox|address|person)",
        r"no such mail ?drop|not user of (?:this|our)",
        r"(?:does not|doesn't) handle mail for (?:that|this) user",
        r"not our (?:customer|user|client|subscriber)s?",
        r"(?:user|recipient|address|mailbox|account) (?:unknown|lookup failed|verification failed|does not resolve)",
        r"unknown to (?:this|our) (?:system|server|domain)",
        r"no one (?:here )?by that name",
        r"nobody (?:here )?by (?:that|this) name",
        r"no mailbox (?:here|by|with|for|at)",
        r"no account (?:here|by|with|for)",
        r"no user (?:here|by|with)",
        r"never heard of",
        r"(?:address|recipient|mailbox|e-mail)(?: [^ .;]+){0,3}? (?:was )?mis-?spell?ed|mis-?typed address",
        r"there is no (?:such )?(?:one|body|user|account|mailbox|person|address|recipient|e-?mail)",
        r"this is not a valid",
        r"not a (?:valid|known|local|deliverable|legal) (?:mailbox|user|recipient|address|e-?mail)",
        r"delivery to (?:non-?existent|unknown|invalid)",
        r"user unknown",
        r"unknown user",
        r"no such user",
        r"unknown recipient",
        r"recipient unknown",
        r"unknown local",
        r"unrouteable address",
        r"undeliverable address",
        r"mailbox not found",
        r"recipient not found",
        r"user not found",
        r"address unknown",
        r"addressee unknown",
        r"not a known user",
        r"unknown address",
        r"(?<!too many )invalid recipient",
        r"bad (?:recipient|destination mailbox)",
        r"recipient does not exist",
        r"(?:address|mailbox|account) no longer accepts",
        # Exchange Online with directory-based edge blocking, 550 5.4.1: no such recipient.
        r"recipient address rejected: access denied",
    ),
)

VAGUE = (
    # RFC 5321 gives "mailbox unavailable" for 450 (busy), 550 (not found, no access, policy): usually not found.
    rule(
        Cause.NO_MAILBOX,
        r"(?:mail ?box|account|user|recipient|address) (?:is )?(?:un|not )available"
        r"|unavailable (?:mail )?(?:user|mail ?box|recipient)|mailbox name not allowed|mailbox not allowed",
        r"(?:recipient|rcpt|user|address|mailbox|account|forward[ -]path|to)(?: [^ .;]+){0,3}? (?:is |was |"
        r"has been |been )?(?:rejected|refused|denied|not accepted|not allowed|disallowed)",
        # In a reply that speaks of no sender, what does not exist is the address asked for.
        r"(?:not|n't|no longer) exists?\b|\bnon-?exist[ea]nt|not hosted here|no longer registered",
        r"address (?:is )?(?:not|un)(?: be )?(?:deliverable|available)",
        r"(?<!too many )(?:invalid|bad|unresolvable|unreachable) (?:address|destination|recipient)",
        r"no valid recipients",
        r"all recipients (?:were )?(?:invalid|rejected)",
        r"address error",
        r"addressing error",
        r"delivery to (?:the following )?(?:recipient|address)(?:s|es)? (?:was )?(?:failed|rejected) permanently",
        strength=Strength.VAGUE,
    ),
)
