"""What receiving servers say in other languages than English.

Servers that answer in the reader's language are mostly Exchange and Microsoft 365, whose reports follow the language of
the sender or the site, and national providers. The patterns are words for the thing, not one product's text.
"""

from __future__ import annotations

from newsletter.bounces.phrases.rules import Strength, rule
from newsletter.bounces.verdicts import Cause

# Words between a sender and what is said of it; where the recipient comes in, the thought is over.
_OF_SENDER = r"[\w-]*(?: (?!empf|adressat|dest|ontvang|odbiorc|получат)[^ .;:]+){0,4}?:? "

# What is refused is the sender, whatever is said of it: unknown, without a domain, listed.
ABOUT_THE_SENDER = (
    rule(
        Cause.SENDER,
        r"(?:absender|expéditeur|émetteur|remitente|mittente|remetente|afzender|nadawc|odesilatel|avsändar|avsender|"
        rf"afsender|отправител|відправник){_OF_SENDER}(?:abgelehnt|abgewiesen|unbekannt|ungültig|gesperrt|blockiert|"
        r"verweigert|existiert|nicht|refusée?|rejetée?|invalide|inconnue?|bloquée?|inexist[ae]nte?|rechazad[oa]|"
        r"desconocid[oa]|inv[áa]lid[oa]|bloquead[oa]|rifiutat[oa]|sconosciut[oa]|respint[oa]|bloccat[oa]|non|"
        r"rejeitad[oa]|geweigerd|onbekend|ongeldig|odrzucon\w+|nieznan\w+|odmítnut\w*|neznám\w*|отклонен\w*|не|"
        r"неизвест\w+|заблокирован\w*|недопустим\w*)",
        r"(?:domain|domäne|domaine|dominio|домен)\w*(?: [^ .;]+){0,2}? (?:l')?(?:absender|expéditeur|"
        r"émetteur|remitente|mittente|remetente|отправител)\w*",
        r"(?:送信者|差出人|送信元).{0,20}(?:拒否|存在し|不明|無効|見つか)",
        r"(?:发件人|發件人|发信人|寄件者).{0,15}(?:被拒|拒绝|不存在|无效|黑名单|未知|地址错误)",
    ),
)

FULL = (
    rule(
        Cause.FULL,
        # German, Dutch, Scandinavian
        r"postfach(?: [^ .;]+){0,6}? voll\b",
        r"volles postfach",
        r"(?:speicher\w*|quota|kontingent\w*|postfach\w*)(?: [^ .;]+){0,5}? (?:überschritten|ueberschritten|erschöpft|"
        r"ausgeschöpft|erreicht|überfüllt|belegt)",
        r"kein(?:en)? (?:speicher)?platz",
        r"zu ?viele (?:e-?)?mails",
        r"mailbox (?:ist )?voll",
        r"(?:postvak|mailbox|postbus)(?: [^ .;]+){0,4}? vol\b",
        r"(?:quotum|opslag\w*)(?: [^ .;]+){0,4}? (?:overschreden|bereikt)",
        r"(?:brevlåda\w*|inkorg\w*|postlåda\w*|postkasse\w*|innboks\w*|postlaatikko\w*)(?: [^ .;]+){0,5}? "
        r"(?:full\w*|fuld\w*|täynnä)",
        # French, Spanish, Italian, Portuguese, Romanian
        r"bo[iî]te(?: [^ .;]+){0,8}? (?:pleine|saturée|remplie)",
        r"quota(?: [^ .;]+){0,5}? (?:dépassé\w*|atteint|superat[oa]|excedid[oa]|superad[oa]|esaurit[oa]|depășit\w*)",
        r"(?:dépass\w+|atteint)(?: [^ .;]+){0,5}? quota",
        r"espace(?: [^ .;]+){0,5}? (?:insuffisant|dépassé)",
        r"(?:buz[óo]n|bandeja|casilla|cuenta|cuota|mailbox)(?: [^ .;]+){0,7}? (?:llen[oa]|excedid[oa]|superad[oa]|"
        r"complet[oa])",
        r"(?:excedido|superado|sobrepasado|supera|excede)(?: [^ .;]+){0,5}? (?:cuota|capacidad|almacenamiento|"
        r"límite de su buzón)",
        r"(?:casella|mailbox)(?: [^ .;]+){0,8}? (?:pien[ao]|satura|esaurit[oa])",
        r"spazio(?: [^ .;]+){0,5}? (?:esaurito|insufficiente)",
        r"caixa(?: [^ .;]+){0,8}? (?:chei[oa]|lotad[oa])",
        r"(?:cota|quota|espaço|limite)(?: [^ .;]+){0,6}? (?:excedid[oa]|ultrapassad[oa]|esgotad[oa]|atingid[oa])",
        r"căsuța(?: [^ .;]+){0,4}? plină",
        # Polish, Czech, Russian, Ukrainian, Hungarian, Turkish, Greek
        r"skrzynk\w+(?: [^ .;]+){0,5}? (?:pełn\w+|przepełni\w+|zapełni\w+)",
        r"przepełnion\w+",
        r"schránk\w+(?: [^ .;]+){0,5}? (?:pln\w+|přeplněn\w+)",
        r"(?:ящик|почтов\w+)(?: [^ .;]+){0,6}? (?:переполнен\w*|заполнен\w*|полон)",
        r"(?:квот\w+|лимит\w*)(?: [^ .;]+){0,5}? (?:превышен\w*|исчерпан\w*)",
        r"превышен\w*(?: [^ .;]+){0,5}? (?:квот\w+|объ[её]м\w*)",
        r"скринька(?: [^ .;]+){0,4}? (?:переповнен\w*|заповнен\w*)",
        r"postafiók\w*(?: [^ .;]+){0,5}? (?:megtelt|tele)",
        r"(?:posta kutusu|kutusu)(?: [^ .;]+){0,4}? (?:dolu|dolmuş)",
        r"kota(?: [^ .;]+){0,4}? (?:aşıldı|dolu)",
        r"γεμάτο",
        # Japanese, Chinese, Korean
        r"メールボックス.{0,20}(?:一杯|いっぱい|満杯|フル|容量)",
        r"容量.{0,12}(?:超え|超過|オーバー|不足|一杯|いっぱい)",
        r"受信.{0,10}(?:超過|制限を超)",
        r"(?:邮箱|信箱|郵箱|收件箱).{0,12}(?:已满|满了|已滿|空间不足|超出|容量)",
        r"(?:空间|空間|配额).{0,6}(?:不足|已满|超)",
        r"(?:편지함|메일함|사서함|용량).{0,15}(?:가득|초과|꽉)",
    ),
)

GONE = (
    rule(
        Cause.NO_MAILBOX,
        # German, Dutch, Scandinavian, Finnish
        r"(?:empfänger|empfaenger|postfach|adresse|benutzer|nutzer|konto|e-?mail-?adresse|teilnehmer|mailbox|"
        r"adressat)\w*(?: [^ .;]+){0,8}? (?:unbekannt|existiert (?:hier )?(?:nicht|leider nicht)|"
        r"nicht (?:gefunden|bekannt|existier\w*|vorhanden|vergeben|mehr (?:vorhanden|gültig|aktiv|erreichbar|"
        r"bekannt)|auffindbar|ermittelt)|existiert nicht|gibt es nicht|ungültig|gelöscht)",
        r"(?:unbekannte[rsn]?|ungültige[rsn]?|nicht existierende[rsn]?) (?:empfänger|benutzer|adresse|postfach|"
        r"e-?mail|nutzer)",
        r"kein(?:en)? (?:solche[rsn]? |gültige[rsn]? )?(?:empfänger|benutzer|postfach|konto)",
        r"nicht (?:mehr )?(?:existent|vorhanden)",
        r"(?:adres|gebruiker|ontvanger|postvak|account)\w*(?: [^ .;]+){0,6}? (?:bestaat niet|onbekend|"
        r"niet (?:gevonden|bekend|bestaat|geldig)|ongeldig)",
        r"onbekende (?:gebruiker|ontvanger)",
        r"(?:adress\w*|mottagar\w*|mottaker\w*|modtager\w*|användar\w*|bruger\w*|bruker\w*)(?: [^ .;]+){0,6}? "
        r"(?:finns inte|hittades inte|okänd|ukendt|ukjent|findes ikke|finnes ikke|blev ikke fundet|"
        r"ble ikke funnet|existerar inte|eksisterer ikke)",
        r"(?:osoite\w*|vastaanottaj\w*|käyttäj\w*)(?: [^ .;]+){0,5}? (?:ei löydy|ei ole olemassa|tuntematon|"
        r"ei löytynyt)",
        # French, Spanish, Italian, Portuguese, Romanian
        r"(?:adresse|destinataire|utilisateur|compte|bo[iî]te|usager|abonné)\w*(?: [^ .;]+){0,10}? (?:inconnue?|"
        r"inexistante?|n'existe (?:pas|plus)|introuvable|non trouvée?|invalide|n'a pas été trouvée?|"
        r"n'est pas (?:valide|connu|valable)|n'est plus|supprimée?|erronée?|n'a pas pu être trouvée?)",
        r"(?:utilisateur|destinataire|adresse) inconnue?",
        r"(?:direcci[óo]n|destinatario|usuario|cuenta|buz[óo]n|correo)\w*(?: [^ .;]+){0,10}? (?:no existe|"
        r"desconocid[oa]|inexistente|inv[áa]lid[oa]|no (?:se )?(?:encontr\w+|ha encontrado|pudo encontrar\w*|"
        r"es v[áa]lid[oa]|fue encontrad[oa]|encontrad[oa])|no se ha encontrado|eliminad[oa])",
        r"no existe (?:el|la|ese|esa|este|esta|ning[úu]n) (?:usuario|cuenta|buz[óo]n|direcci[óo]n|destinatario)",
        r"(?:indirizzo|destinatario|utente|casella|account)\w*(?: [^ .;]+){0,10}? (?:inesistente|sconosciut[oa]|"
        r"non (?:esiste|trovat[oa]|valid[oa]|è stat[oa] trovat[oa]|è valid[oa]|è più)|non è presente|errat[oa])",
        r"utente sconosciuto",
        r"(?:endereço|destinat[áa]rio|usu[áa]rio|utilizador|conta|caixa)\w*(?: [^ .;]+){0,10}? "
        r"(?:n[ãa]o (?:existe|encontrad[oa]|foi (?:poss[íi]vel )?(?:encontrad[oa]|encontrar|localizad[oa])|"
        r"[ée] v[áa]lid[oa]|p[ôo]de ser encontrad[oa]|foi encontrad[oa]|localizad[oa])|desconhecid[oa]|"
        r"inexistente|inv[áa]lid[oa])",
        r"(?:adresa|utilizatorul|destinatarul)(?: [^ .;]+){0,6}? (?:nu există|necunoscut\w*|nu a fost găsit\w*)",
        # Polish, Czech, Slovak, Hungarian, Turkish, Greek
        r"(?:adres\w*|odbiorc\w*|użytkownik\w*|kont\w*|skrzynk\w*)(?: [^ .;]+){0,7}? (?:nie (?:istnieje|"
        r"znaleziono|został\w* znalezion\w*)|nieznan\w+|nieprawidłow\w+|niepoprawn\w+)",
        r"nie ma (?:takiego|takiej) (?:użytkownika|adresu|konta|skrzynki|odbiorcy)",
        r"nieznany (?:użytkownik|odbiorca)",
        r"(?:adres\w*|příjemc\w*|uživatel\w*|schránk\w*|užívateľ\w*)(?: [^ .;]+){0,6}? (?:neexistuje|"
        r"nebyl\w* nalezen\w*|neznám\w+|nenájden\w*|neexistujúc\w*)",
        r"(?:címzett\w*|felhasználó\w*|postafiók\w*|cím\w*)(?: [^ .;]+){0,6}? (?:nem (?:létezik|található)|"
        r"ismeretlen|érvénytelen)",
        r"(?:alıcı\w*|kullanıcı\w*|adres\w*|hesap)(?: [^ .;]+){0,6}? (?:bulunamadı|yok|mevcut değil|geçersiz|"
        r"bilinmiyor)",
        r"(?:διεύθυνση|χρήστης|παραλήπτης)(?: [^ .;]+){0,6}? (?:δεν (?:υπάρχει|βρέθηκε)|άγνωστ\w+)",
        # Russian, Ukrainian, Bulgarian
        r"(?:адрес\w*|получател\w*|пользовател\w*|ящик\w*|абонент\w*|аккаунт\w*|"
        r"учетн\w+ запис\w+)(?: [^ .;]+){0,8}? (?:не (?:существует|найден\w*|зарегистрирован\w*|удалось найти|"
        r"обнаружен\w*|известен)|неизвест\w+|отсутствует|удал[её]н\w*|недействител\w+|неверн\w+)",
        r"так\w+ (?:адрес\w*|пользовател\w*|ящик\w*|получател\w*) (?:нет|не существует)",
        r"(?:нет|не существует|неизвестн\w+|несуществующ\w+) (?:так\w+ )?(?:почтов\w+ )?(?:пользовател\w+|ящик\w*|"
        r"адрес\w*|получател\w+)",
        r"(?:адрес\w*|користувач\w*|скриньк\w*|одержувач\w*)(?: [^ .;]+){0,6}? (?:не (?:існує|знайдено)|невідом\w+)",
        r"(?:потребител\w*|получател\w*)(?: [^ .;]+){0,5}? не съществува",
        # Japanese, Chinese, Korean
        r"(?:宛先|アドレス|ユーザ|メールボックス|受信者|あて先|利用者|アカウント).{0,60}(?:存在しま?せ?ん?|存在しない|見つかりません|見つからな|不明|ありません|無効|間違|確認できません|"
        r"登録されていません)",
        r"(?:收件人|用户|用戶|邮箱|地址|帐户|帳號|帐号|账号|信箱|郵箱|使用者).{0,15}(?:不存在|未找到|找不到|无效|無效|未知|错误|不正确|沒有|已注销)",
        r"不存在的(?:用户|邮箱|地址|收件人)",
        r"(?:无此|没有此|沒有此|查无此|查無此)(?:用户|用戶|人|邮箱|帐号)",
        r"(?:수신자|받는 ?사람|사용자|메일 ?주소|주소|계정).{0,20}(?:존재하지|찾을 수 없|없는|없습니다|잘못)",
        r"(?:존재하지 않는|없는) (?:사용자|메일|계정|주소)",
    ),
    rule(
        Cause.NO_DOMAIN,
        r"(?:domain|domäne|domaine|dominio|dom[íi]nio|domein|domen\w*|domén\w*|tartomány|alan adı|"
        r"домен\w*)(?: [^ .;]+){0,7}? (?:existiert nicht|nicht (?:gefunden|auffindbar|existier\w*)|unbekannt|"
        r"n'existe pas|inconnue?|introuvable|no existe|desconocido|no encontrado|non (?:esiste|trovato)|"
        r"sconosciuto|inesistente|n[ãa]o (?:existe|encontrado|foi encontrado)|desconhecido|bestaat niet|onbekend|"
        r"nie istnieje|nieznan\w+|neexistuje|nem létezik|bulunamadı|не (?:существует|найден\w*|"
        r"зарегистрирован\w*))",
        r"unbekannte (?:domain|domäne)",
        r"(?:ドメイン|ホスト).{0,15}(?:存在し|見つか|不明)",
        r"(?:域名|网域|網域|域).{0,10}(?:不存在|未找到|找不到|无效)",
        r"도메인.{0,15}(?:존재하지|찾을 수 없)",
    ),
)

# In a reply that speaks of no sender, what does not exist is the address asked for.
UNKNOWN = (
    rule(
        Cause.NO_MAILBOX,
        r"inexistent\w*|inesistente|n'existe (?:pas|plus)|no existe|non esiste|não existe|nie istnieje|bestaat niet|"
        r"existiert nicht|neexistuje|не существует|不存在|存在しま",
        strength=Strength.VAGUE,
    ),
)

CLOSED = (
    rule(
        Cause.DISABLED,
        r"(?:konto|postfach|account|benutzer|adresse|mailbox)\w*(?: [^ .;]+){0,6}? (?:gesperrt|deaktiviert|"
        r"stillgelegt|inaktiv|abgeschaltet|eingefroren|geblokkeerd|uitgeschakeld|spärrat|deaktiverad)",
        r"(?:compte|bo[iî]te|adresse)\w*(?: [^ .;]+){0,6}? (?:désactivée?|suspendue?|bloquée?|inactive?|fermée?)",
        r"(?:cuenta|buz[óo]n|usuario|conta|caixa|usu[áa]rio|mailbox)\w*(?: [^ .;]+){0,6}? (?:desactivad[oa]|"
        r"suspendid[oa]|bloquead[oa]|inactiv[oa]|desativad[oa]|suspens[oa]|inativ[oa]|deshabilitad[oa]|inhabilitad[oa]|"
        r"desabilitad[oa])",
        r"per (?:inutilizzo|inattività)|falta de uso|por inactividad|pour inactivité|wegen inaktivität",
        r"(?:casella|account|utente|mailbox)(?: [^ .;]+){0,6}? (?:disabilitat[oa]|disat+ivat[oa]|sospes[oa]|"
        r"bloccat[oa]|inattiv[oa])",
        r"(?:kont\w+|skrzynk\w+)(?: [^ .;]+){0,6}? (?:zablokowan\w+|nieaktywn\w+|zawieszon\w+|wyłączon\w+|"
        r"zamknięt\w+)",
        r"(?:ящик|аккаунт|учетн\w+ запис\w+|пользовател\w*|почт\w+)(?: [^ .;]+){0,6}? (?:заблокирован\w*|"
        r"отключ[её]н\w*|неактив\w+|приостановлен\w*)",
        r"(?:アカウント|メールボックス).{0,15}(?:停止|無効化|凍結|休止)",
        r"(?:帐户|账号|帳號|邮箱|用户).{0,10}(?:已停用|被禁用|已冻结|被锁定|停用)",
    ),
    rule(
        Cause.RECIPIENT_REFUSES,
        r"受信(?:を)?(?:拒否|制限)",
        r"受け取れません",
        r"nimmt keine (?:e-?mails|nachrichten)",
        r"n'accepte pas (?:de |les |vos )?(?:messages|e-?mails|courri\w+)",
        r"no acepta (?:correos?|mensajes)",
        r"non accetta (?:messaggi|mail|e-?mail|posta)",
        r"n[ãa]o aceita (?:mensagens|e-?mails)",
        r"не принимает (?:почту|сообщения|письма)",
        r"nie przyjmuje (?:wiadomości|poczty)",
        r"收件人拒收",
        r"拒收",
    ),
)

REFUSED = (
    rule(
        Cause.SIZE,
        r"(?:nachricht|mail|e-?mail|anlage|anhang)\w*(?: [^ .;]+){0,5}? (?:zu groß|zu gross|größe überschreitet)",
        r"(?:message|courriel|pièce)\w*(?: [^ .;]+){0,6}? trop (?:volumineux|grand|gros|lourd|volumineuse)",
        r"(?:mensaje|correo)(?: [^ .;]+){0,6}? (?:demasiado grande|excede el tamaño)",
        r"messaggio(?: [^ .;]+){0,5}? troppo grande",
        r"mensagem(?: [^ .;]+){0,5}? (?:muito grande|grande demais)",
        r"bericht(?: [^ .;]+){0,4}? te groot",
        r"(?:wiadomość|сообщение|письмо)(?: [^ .;]+){0,5}? (?:za duż\w+|zbyt duż\w+|слишком большо\w+)",
        r"サイズ.{0,10}(?:超|大き)",
        r"邮件(?:过大|太大)",
    ),
    rule(
        Cause.SPAM,
        r"(?:als|comme|como|come|jako|как|за) (?:spam|unerwünscht\w*|indésirable|werbung|pourriel|no deseado|"
        r"indesejad\w+|спам)",
        r"unerwünschte (?:werbung|nachricht|mail|e-?mail)",
        r"spamverdacht",
        r"indésirable",
        r"correo (?:basura|no deseado)",
        r"posta indesiderata",
        r"lixo eletr[ôo]nico",
        r"спам\w*",
        r"迷惑メール",
        r"スパム",
        r"垃圾邮件",
        r"垃圾郵件",
        r"스팸",
    ),
    rule(
        Cause.REPUTATION,
        r"(?:schwarze[rn]?|sperr|block)[ -]?liste",
        r"auf (?:einer|der) (?:\w+ )?liste",
        r"liste noire",
        r"lista (?:negra|nera)",
        r"czarn\w+ list\w+",
        r"zwarte lijst",
        r"черн\w+ спис\w+",
        r"стоп-?лист",
        r"ブラックリスト",
        r"黑名单",
        r"黑名單",
        r"blockiert",
        r"gesperrt",
        r"bloqué",
        r"bloquead[oa]",
        r"bloccat[oa]",
        r"geblokkeerd",
        r"zablokowan\w+",
        r"заблокирован\w*",
    ),
    rule(
        Cause.POLICY,
        r"richtlinie\w*",
        r"abgelehnt",
        r"abgewiesen",
        r"verweigert",
        r"zurückgewiesen",
        r"stratégie",
        r"politique",
        r"rejetée?",
        r"refusée?",
        r"rechazad[oa]",
        r"pol[íi]tica",
        r"rifiutat[oa]",
        r"respint[oa]",
        r"rejeitad[oa]",
        r"recusad[oa]",
        r"geweigerd",
        r"geweiger\w*",
        r"odrzucon\w+",
        r"отклонен\w*",
        r"отказан\w*",
        r"zamítnut\w*",
        r"拒否",
        r"被拒",
        r"拒绝",
        r"거부",
        strength=Strength.VAGUE,
    ),
)

OUT_OF_ORDER = (
    rule(
        Cause.NETWORK,
        r"nicht (?:erreichbar|erreicht)",
        r"zeitüberschreitung",
        r"délai (?:d'attente )?(?:dépassé|expiré)",
        r"injoignable",
        r"tiempo de espera",
        r"no se pudo (?:conectar|establecer)",
        r"timeout",
        r"tempo limite",
        r"tempo scaduto",
        r"przekroczon\w+ (?:limit )?czas\w*",
        r"время ожидания",
        r"превышено время",
        r"недоступ\w+",
        r"タイムアウト",
        r"接続でき",
        r"连接超时",
        r"連線逾時",
        strength=Strength.VAGUE,
    ),
    rule(
        Cause.TRY_LATER,
        r"später (?:erneut|noch ?einmal|wieder)",
        r"vorübergehend",
        r"ultérieurement",
        r"plus tard",
        r"temporairement",
        r"m[áa]s tarde",
        r"temporalmente",
        r"più tardi",
        r"temporaneamente",
        r"mais tarde",
        r"temporariamente",
        r"tijdelijk",
        r"tymczasowo",
        r"позже",
        r"временно",
        r"一時的",
        r"稍后",
        r"暂时",
        strength=Strength.VAGUE,
    ),
)
