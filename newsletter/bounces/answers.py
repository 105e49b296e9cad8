"""Tells machines that report, machines that answer, and people apart by a message's headers."""

from __future__ import annotations

import re

from newsletter.bounces.mime import Mail
from newsletter.bounces.phrases.rules import any_of

_DAEMON = any_of(
    r"mailer[-_. ]?daemon",
    r"post[-_. ]?master",
    r"mail[-_ ]?(?:daemon|delivery|administrator|system|router|gateway)",
    r"\bmdaemon",
    r"daemon@",
    r"delivery[-_ ]?(?:sub)?system",
    r"(?:system|email|mail|message) administrator",
    r"mailadmin",
    r"microsoft exchange",
    r"bounces?@",
    r"non-?delivery",
    r"\bndr\b",
    r"internet mail delivery",
    r"mail transfer",
    r"mta@",
    r"mmdf",
    r"\bsmtp@",
    r"amavis",
)
_FAILED = any_of(
    r"undeliver",
    r"un-?delivered",
    r"non-?deliver",
    r"not (?:be(?:en)? )?deliver",
    r"deliver\w* (?:status|fail|report|notif|problem|error|unsuccess|has failed|attempt)",
    r"fail\w* (?:notice|deliver|mail|to deliver)",
    r"(?:mail|message|e-?mail|delivery)(?: \w+){0,4} (?:fail|error|return|reject|refus|bounce|blocked|undeliver)",
    r"return(?:ed|ing) (?:mail|message|e-?mail|to sender)",
    r"couldn'?t be delivered",
    r"could not (?:be )?(?:deliver|send)",
    r"cannot (?:be )?deliver",
    r"unable to deliver",
    r"user unknown",
    r"unknown user",
    r"no such user",
    r"mail ?box (?:is )?full",
    r"over quota",
    r"rejected",
    r"mail system error",
    r"ndn:",
    r"\bndr\b",
    r"\bdsn\b",
    r"bounced?\b",
    r"mail could not",
    r"unzustellbar",
    r"nicht zu(?:ge)?stell",
    r"unzugestellt",
    r"zustell\w*(?: \w+){0,2} (?:fehl|nicht)",
    r"fehlgeschlagen",
    r"fehlerhafte zustellung",
    r"retour[- ]?mail",
    r"kan niet worden",
    r"niet (?:be)?zorg",
    r"onbestelbaar",
    r"non (?:remis|distribu|délivr)",
    r"échec (?:de|d')",
    r"retour(?:né)? (?:à|de)",
    r"impossible de (?:remettre|délivrer|distribuer)",
    r"non remissible",
    r"no (?:se (?:ha |pudo |puede |ha podido )?)?entreg",
    r"no entregad",
    r"devuelto",
    r"fallo",
    r"error de entrega",
    r"imposible entregar",
    r"mancat\w+ (?:consegna|recapito)",
    r"non (?:recapit|consegn)",
    r"consegna (?:fallita|non riuscita)",
    r"impossibile recapitare",
    r"falha",
    r"não (?:foi )?(?:entreg|é possível)",
    r"nao entregue",
    r"devolvid",
    r"erro (?:de|ao|na) ent",
    r"niedostarcz",
    r"nie dostarcz",
    r"zwrot",
    r"nie można dostarczyć",
    r"nedoruč",
    r"kézbesíthetetlen",
    r"teslim edilemedi",
    r"kan inte leverera",
    r"olevererbart",
    r"kunne ikke levere",
    r"toimittamat",
    r"недостав",
    r"не\s?достав",
    r"не удалось доставить",
    r"ошибка доставки",
    r"невозможно доставить",
    r"送信(?:エラー|不能|失敗)",
    r"配[信送](?:エラー|不能|失敗|できません)",
    r"エラーメール",
    r"不達",
    r"退信",
    r"未送达",
    r"退回",
    r"投递失败",
    r"无法送达",
    r"전송 ?실패",
    r"배달 ?(?:실패|되지)",
    r"반송",
)
_DELAYED = any_of(
    r"delay",
    r"could not send message for past",
    r"still (?:being )?(?:retried|trying|queued)",
    r"delivery (?:is )?(?:incomplete|deferred|pending)",
    r"warning:? (?:could|message|mail)",
    r"verzöger",
    r"retard",
    r"retras",
    r"ritard",
    r"atras(?:o|ad)",
    r"opóźni",
    r"задерж",
    r"遅延",
    r"延迟",
)
_DELIVERED = any_of(
    r"^(?:delivered|relayed|expanded|read|zugestellt|gelesen|lu|leído|letto|lida|remis)\s?:",
    r"success(?:ful)?(?: mail)? deliver",
    r"delivery (?:success|confirm|receipt)",
    r"return receipt",
    r"read(?:ing)? (?:receipt|confirmation)",
    r"lesebestätigung",
    r"accusé de (?:lecture|réception)",
    r"(?:was|been) (?:successfully )?(?:delivered|read)\b",
    r"开封",
    r"開封",
)
_AWAY = any_of(
    r"out of (?:the )?office",
    r"\booo\b",
    r"auto(?:matic|matisch\w*|mated|matique|m[áa]tica)?[- :.]*(?:re(?:ply|sponse|sponder)|antwort|answer|"
    r"acknowledg|r[ée]p|respuesta|risposta|resposta|svar|notification)",
    r"^auto:",
    r"^automatic",
    r"^re: auto",
    r"vacation",
    r"on (?:leave|holiday)",
    r"away from",
    r"annual leave",
    r"maternity",
    r"absen[ct]",
    r"abwesen",
    r"nicht im (?:haus|büro)",
    r"urlaub",
    r"réponse automatique",
    r"hors du bureau",
    r"en congé",
    r"respuesta autom",
    r"fuera de (?:la )?oficina",
    r"risposta automatica",
    r"fuori (?:sede|ufficio)",
    r"assente",
    r"resposta autom",
    r"fora do escrit",
    r"férias",
    r"afwezig",
    r"automatisch antwoord",
    r"automatyczna odpowied",
    r"nieobecno",
    r"autosvar",
    r"frånvaro",
    r"poissa",
    r"fravær",
    r"автоответ",
    r"автоматический ответ",
    r"отсутств",
    r"自動(?:返信|応答)",
    r"不在",
    r"自动(?:回复|答复)",
    r"自動回覆",
    r"자동 ?(?:회신|응답)",
    r"부재",
    r"ticket",
    r"case (?:#|number|\d)",
    r"\[#?[\w-]{2,20}\d+\]",
    r"(?:we|have) (?:have )?received your",
    r"thank you for (?:your|contacting|writing)",
    r"your (?:request|message|e-?mail|inquiry) (?:has been|was) received",
    r"vielen dank",
    r"merci (?:de|pour)",
    r"gracias por",
    r"please (?:confirm|verify|authenticate)",
    r"confirm (?:your|that you|delivery)",
    r"verif(?:y|ication) (?:your|required)",
    r"challenge",
    r"spamarrest",
    r"boxbe",
    r"challenge-response",
    r"no longer (?:with|at|works)",
    r"has left",
    r"new (?:e-?mail )?address",
    r"change of (?:e-?mail )?address",
)
# What a mail program puts before the subject that is answered.
_ANSWERED = re.compile(r"^(?:(?:re|aw|sv|vs|antw|odp|rép|res|ref|r)(?:\[\d+\])? ?: ?)+")
# As a whole: "Unsubscribe from the noise" is the subject of an issue.
_LEAVE = re.compile(
    r"^\W*(?:(?:please|pls|bitte|kindly) )?(?:unsubscribe|unsub|opt[ -]?out|remove(?: me)?|take me off|abmeld\w*|"
    r"abbestell\w*|austragen|désabonne\w*|désinscri\w*|se désabonner|(?:darme de )?baja|"
    r"cancelar (?:la )?suscripci[óo]n|desuscribir\w*|disiscri\w*|cancellami|cancelar (?:inscri|assin)\w*|"
    r"descadastr\w*|afmelden|uitschrijven|wypisz\w*|rezygnuj\w*|отписат\w*|отписка|avregistrera|frameld|配信停止|購読解除|"
    r"退订)(?:[ ,]+(?:me|mich|please|bitte|now|thanks|thank you|from|your|this|the|all|any|my|mailing|e?-?mails?|"
    r"lists?|newsletters?))*\W*$"
)


def is_daemon(mail: Mail) -> bool:
    """Whether a mail system speaks, by its name or by an empty return path (RFC 3464 section 2)."""
    return bool(_DAEMON.search(_from(mail))) or mail.header("return-path") in {"<>", "<MAILER-DAEMON>"}


def is_named_daemon(mail: Mail) -> bool:
    """Whether the sender's name is that of a mail system."""
    return bool(_DAEMON.search(_from(mail)))


def says_failed(mail: Mail) -> bool:
    """Whether the subject says that mail was not delivered."""
    return bool(_FAILED.search(_subject(mail))) or bool(mail.header("x-failed-recipients"))


def is_forward(mail: Mail) -> bool:
    """Whether the subject is that of a mail passed on."""
    return _subject(mail).startswith(("fwd:", "fw:", "wg:", "tr:", "rv:", "i:", "enc:"))


def is_reply(mail: Mail) -> bool:
    """Whether the subject is that of an answer: a report has no such subject, though its reader may answer one."""
    return bool(_ANSWERED.match(_subject(mail)))


def is_of_a_list(mail: Mail) -> bool:
    """Whether a mailing list sent it (RFC 2919, RFC 2369): it may well be about returned mail."""
    return bool(mail.header("list-id") or mail.header("list-unsubscribe"))


def says_delayed(text: str) -> bool:
    """Whether a subject says that delivery is still being tried."""
    return bool(_DELAYED.search(text.lower()))


def says_delivered(mail: Mail) -> bool:
    """Whether the subject says that mail was delivered or read."""
    return bool(_DELIVERED.search(_subject(mail)))


def is_automatic(mail: Mail) -> bool:
    """Whether a machine answered in a person's place: it says so itself, or its subject does."""
    return declares_automatic(mail) or bool(_AWAY.search(_subject(mail)))


def declares_automatic(mail: Mail) -> bool:
    """Whether a machine says that it answers in a person's place: by RFC 3834's header or its older relatives."""
    submitted = mail.header("auto-submitted").lower()
    if submitted.startswith("auto-") or mail.header("precedence").lower() in {"auto_reply", "auto-reply", "junk"}:
        return True
    older = (
        "x-autoreply",
        "x-autorespond",
        "x-autoresponder",
        "x-auto-reply",
        "x-autogenerated",
        "x-auto-response",
        "x-vacation",
        "x-mail-autoreply",
    )
    return any(mail.header(name) for name in older) or "vacation" in mail.header("x-mailer").lower()


def is_away(mail: Mail) -> bool:
    """Whether the subject is that of an automatic answer. What comes first in it is the machine's own; the rest is the
    subject of the mail that it answers or returns."""
    away, failed = _AWAY.search(_subject(mail)), _FAILED.search(_subject(mail))
    return away is not None and (failed is None or away.start() <= failed.start())


def wants_to_leave(mail: Mail, text: str) -> bool:
    """Whether this is what a mailto link in List-Unsubscribe makes (RFC 2369): subject or first line say so."""
    first = next((line.strip().lower() for line in text.splitlines() if line.strip()), "")
    return any(_LEAVE.match(_ANSWERED.sub("", said)) for said in (_subject(mail), first))


def _from(mail: Mail) -> str:
    return mail.header("from").lower()


def _subject(mail: Mail) -> str:
    return mail.header("subject").lower()
