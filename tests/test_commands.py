"""The commands: text or JSON on stdout, and every refusal one sentence on stderr with exit status 1."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rich.console import Console

from newsletter import commands
from newsletter.models import Issue, Newsletter, Theme
from subscribers import tiers
from subscribers.models import Subscriber, Tier

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def run_json(*arguments: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return data


def run_program(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


def make_newsletter(**fields: Any) -> Newsletter:
    return Newsletter.objects.create(**{"slug": "weekly", "name": "The Weekly", **fields})


def test_create_newsletter_makes_it_with_its_theme_and_the_first_tiers() -> None:
    text = run("create_newsletter", "weekly", "--name", "The Weekly")
    assert "“The Weekly” is there as weekly" in text
    newsletter = Newsletter.objects.get()
    assert (newsletter.slug, newsletter.name, newsletter.tracking) == ("weekly", "The Weekly", "anonymous")
    assert Theme.objects.get().newsletter == newsletter
    assert list(Tier.objects.values_list("slug", "level")) == [("free", 0), ("paid", 1), ("founding", 2)]


def test_create_newsletter_takes_every_field_and_answers_in_json() -> None:
    fields: dict[str, Any] = {
        "from_address": "editor@example.org",
        "from_name": "Ed",
        "language": "pt-BR",
        "time_zone": "Europe/Berlin",
        "postal_address": "1 Main Street",
        "tracking": "individual",
        "upgrade_url": "https://example.org/upgrade",
        "utm_source": "{newsletter}",
        "utm_medium": "email",
        "utm_campaign": "{newsletter}-{number}",
    }
    arguments = [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", value)]
    arguments += ["--ask-first", "--utm-hosts", "example.org, https://shop.example.net/page"]
    answer = run_json("create_newsletter", "weekly", "--name", "The Weekly", *arguments)
    newsletter = Newsletter.objects.get()
    fields |= {"ask_first": True, "utm_hosts": ["example.org", "shop.example.net"]}
    assert answer == {"id": newsletter.pk, "newsletter": "weekly", "name": "The Weekly", **fields}
    assert {name: getattr(newsletter, name) for name in fields} == fields


@pytest.mark.parametrize("tracking", [(), ("--tracking", "off"), ("--tracking", "anonymous")])
def test_create_newsletter_asks_nobody_where_nothing_is_kept_of_them(tracking: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="--tracking individual"):
        run("create_newsletter", "weekly", "--name", "The Weekly", "--ask-first", *tracking)
    assert not Newsletter.objects.exists()


def test_create_newsletter_leaves_tiers_that_somebody_made_alone() -> None:
    Tier.objects.create(slug="friends", name="Friends", level=3)
    run("create_newsletter", "weekly", "--name", "The Weekly")
    assert list(Tier.objects.values_list("slug", flat=True)) == ["friends"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["weekly", "--name", "A\r\nBcc: all@example.org"], "Name: Write it on one line"),
        (["weekly", "--name", "A", "--from-name", "B\nBcc: x"], "From name: Write it on one line"),
        (
            ["weekly", "--name", "A", "--from-address", "a@example.org\nBcc: b@example.org"],
            "From address: Enter a valid",
        ),
        (["weekly", "--name", ""], "Name: This field cannot be blank"),
        (["weekly", "--name", "x" * 101], "Name: Ensure this value has at most 100"),
        (["admin", "--name", "A"], "Slug: “admin” is the path of another page"),
        (["Admin", "--name", "A"], "Slug: “Admin” is the path of another page"),
        (["two words", "--name", "A"], "Slug: Enter a valid"),
        (["weekly", "--name", "A", "--tracking", "always"], "invalid choice: 'always'"),
        (["weekly", "--name", "A", "--time-zone", "Mars/Olympus"], "Time zone: Name a time zone like"),
        (["weekly", "--name", "A", "--language", "not a language"], "Language: "),
        (["weekly", "--name", "A", "--upgrade-url", "javascript:alert(1)"], "Upgrade url: Enter a valid URL"),
        (["weekly", "--name", "A", "--utm-campaign", "{reader}"], "Utm campaign: Between braces there may stand"),
        (["weekly", "--name", "A", "--utm-hosts", "example.org ???"], "“...” is no host"),
    ],
)
def test_create_newsletter_refuses_what_cannot_be_used(arguments: list[str], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        run("create_newsletter", *arguments)
    assert not Newsletter.objects.exists()
    assert not Tier.objects.exists()


def test_create_newsletter_refuses_a_slug_that_is_taken() -> None:
    make_newsletter()
    with pytest.raises(CommandError, match="There is a newsletter “weekly” already"):
        run("create_newsletter", "weekly", "--name", "Another")
    assert Newsletter.objects.get().name == "The Weekly"


def test_import_subscribers_counts_in_text_and_json(tmp_path: Path) -> None:
    make_newsletter()
    path = tmp_path / "readers.csv"
    path.write_text("email,name,tier\nada@example.org,Ada,paid\nbo@example.org,Bo,\nnobody,No,\n")
    text = run("import_subscribers", str(path), "--newsletter", "weekly")
    assert "3 rows." in text
    assert "2 subscribed to weekly" in text
    assert "Line 4: its address is not one that mail can be sent to." in text
    assert run_json("import_subscribers", str(path), "--newsletter", "weekly") == {
        "newsletter": "weekly",
        "rows": 3,
        "added": 0,
        "already": 2,
        "updated": 0,
        "kept": 0,
        "suppressed": 0,
        "duplicates": 0,
        "rejected": [{"line": 4, "reason": "its address is not one that mail can be sent to"}],
        "tiers": {"free": 1, "paid": 1, "founding": 0},
        "notes": [],
    }


def test_import_subscribers_lists_the_first_twenty_rejected_rows_and_in_json_all(tmp_path: Path) -> None:
    make_newsletter()
    path = tmp_path / "readers.csv"
    path.write_text("email\n" + "nobody\n" * 25)
    text = run("import_subscribers", str(path), "--newsletter", "weekly")
    assert text.count("its address") == 20
    assert "… and 5 more" in text
    assert len(run_json("import_subscribers", str(path), "--newsletter", "weekly")["rejected"]) == 25


def test_an_unknown_newsletter_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is none yet"):
        run("import_subscribers", str(tmp_path / "x.csv"), "--newsletter", "weekly")
    make_newsletter(slug="b")
    make_newsletter(slug="a")
    with pytest.raises(CommandError, match="There is no newsletter “weekly”; there are: a, b"):
        run("import_subscribers", str(tmp_path / "x.csv"), "--newsletter", "weekly")


def test_an_issue_is_found_by_its_id_or_by_newsletter_and_number() -> None:
    issue = Issue.objects.create(newsletter=make_newsletter(), number=3, title="Three", subject="Three")
    assert commands.find_issue(str(issue.pk)) == issue
    assert commands.find_issue("weekly/3") == issue


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("three", "“three” names no issue"),
        ("", "names no issue"),
        ("/3", "names no issue"),
        ("weekly/", "names no issue"),
        ("9" * 30, "names no issue"),
        ("-1", "names no issue"),
        ("999999", "There is no issue 999999"),
        ("weekly/4", "There is no issue weekly/4"),
        ("other/3", "There is no newsletter “other”; there are: weekly"),
    ],
)
def test_an_issue_that_is_not_there_is_refused(text: str, reason: str) -> None:
    Issue.objects.create(newsletter=make_newsletter(), number=3, title="Three", subject="Three")
    with pytest.raises(CommandError, match=reason):
        commands.find_issue(text)


def test_an_issue_without_a_number_is_named_by_its_id_where_a_number_was_asked_for() -> None:
    newsletter = make_newsletter()
    with pytest.raises(CommandError, match=r"There is no issue weekly/1; `manage.py import_issue` makes one"):
        commands.find_issue("weekly/1")
    issues = [Issue.objects.create(newsletter=newsletter, title=f"Title {index}", subject="S") for index in range(2)]
    with pytest.raises(CommandError) as refused:
        commands.find_issue("weekly/1")
    named = f"{issues[1].pk} (“Title 1”), {issues[0].pk} (“Title 0”)"
    assert str(refused.value) == f"There is no issue weekly/1; issues without a number go by their id: {named}."
    for _ in range(4):
        Issue.objects.create(newsletter=newsletter, title="Title", subject="S")
    with pytest.raises(CommandError, match="of an older one's page in the admin has its id") as refused:
        commands.find_issue("weekly/1")
    assert "Title 0" not in str(refused.value)


def test_nothing_is_cut_at_80_columns_and_the_time_that_is_left_stands_there_once() -> None:
    bar = commands.progress_bar(remaining=False)
    said = "12 refused; 101 a second, about 2 hours left; spread over 2 hours, until about Tue 1 Dec, 14:30 UTC"
    title = "Sending “[AI] What the models of this year cost, and who it is that pays for all of them”"
    bar.add_task(title, total=1_000_000, completed=123_456, said=said)
    out = io.StringIO()
    Console(file=out, width=80).print(*bar.get_renderables())
    shown = " ".join(out.getvalue().split())
    assert said in shown
    assert "123456/1000000" in shown
    assert "…" not in shown
    assert set(title.split()) <= set(shown.split())
    assert not re.search(r"\d:\d\d:\d\d|-:--", shown)
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_a_table_shows_text_as_it_is() -> None:
    table = commands.table(["heading", "words"], [["[bold]Models[/bold] 🤖", 7], ["Papers", 12345]])
    assert "[bold]Models[/bold] 🤖" in table
    assert not any(line.endswith(" ") for line in table.splitlines())


@pytest.mark.django_db(transaction=True)
def test_a_program_ends_well_with_its_answer_on_stdout(environment: dict[str, str]) -> None:
    done = run_program(environment, "create_newsletter", "weekly", "--name", "Täglich 📰", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["name"] == "Täglich 📰"
    assert Newsletter.objects.get().name == "Täglich 📰"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create_newsletter", "admin", "--name", "A"], "Slug: “admin” is the path of another page of this site"),
        (["create_newsletter", "weekly"], "The following arguments are required: --name; `manage.py create_newsletter"),
        (["create_newsletter", "weekly", "--name", "A", "--colour", "red"], "Unrecognized arguments: --colour red"),
        (["import_subscribers", "none.csv", "--newsletter", "weekly"], "There is no newsletter “weekly”"),
    ],
)
def test_a_refused_program_says_one_sentence_and_ends_with_status_1(
    environment: dict[str, str], arguments: list[str], sentence: str
) -> None:
    done = run_program(environment, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
    in_json = run_program(environment, *arguments, "--json")
    assert in_json.returncode == 1
    assert json.loads(in_json.stdout) == {"error": done.stderr.strip()}
    assert in_json.stderr == done.stderr


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:///{folder}/new.sqlite3", "The database is not up to date: run `manage.py migrate`."),
        ("postgres://nobody:x@127.0.0.1:1/none", "The database cannot be used ("),
    ],
)
def test_a_database_that_cannot_be_used_is_said_in_a_sentence(
    environment: dict[str, str], tmp_path: Path, url: str, sentence: str
) -> None:
    changed = environment | {"DATABASE_URL": url.format(folder=tmp_path)}
    done = run_program(changed, "create_newsletter", "weekly", "--name", "A")
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1


def test_the_default_tiers_are_made_once() -> None:
    tiers.ensure_default()
    tiers.ensure_default()
    assert Tier.objects.count() == 3
    assert not Subscriber.objects.exists()


def test_classify_bounces_answers_for_every_file_it_can_read(tmp_path: Path) -> None:
    mail, gone = tmp_path / "a.eml", tmp_path / "gone.eml"
    mail.write_text("From MAILER-DAEMON\nFrom: MAILER-DAEMON@x.example\nSubject: failure notice\n\n550 no such user\n")
    # No database is asked: none answers at this address.
    environment = {**os.environ, "DATABASE_URL": "postgres://nobody:x@127.0.0.1:1/none"}
    answer = run_program(environment, "classify_bounces", "--json", str(mail), str(gone))
    assert json.loads(answer.stdout) == {str(mail): "hard"}
    assert (answer.returncode, answer.stderr) == (1, f"“{gone}” could not be read: No such file or directory.\n")
    assert "There is no such mailbox." in run("classify_bounces", str(mail))


def test_classify_bounces_says_of_what_is_no_mail_that_it_cannot_be_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = {
        "empty": b"",
        "blank": b"\n \n",
        "rubbish": bytes(range(256)) * 40,
        "text": b"The mill stands still.\n\nNobody answered.",
        "table": b"name: Vera\nage: 7\n\nSomebody answered.",
    }
    for name, raw in kinds.items():
        (tmp_path / name).write_bytes(raw)
    words = {name: run("classify_bounces", name) for name in kinds}
    for name in ("empty", "blank"):
        assert "It cannot be read as a mail: it is empty." in words[name]
    for name in ("rubbish", "text", "table"):
        assert "It cannot be read as a mail: it names no sender" in words[name]
    assert not [name for name, said in words.items() if "Somebody answered" in said]
    told = json.loads(run("classify_bounces", "--json", *kinds))
    assert told == dict.fromkeys(kinds, "not-a-bounce")
    (tmp_path / "text").write_bytes(b"From: Vera <vera@readers.example>\nSubject: Re: Weekly\n\nThank you.")
    assert "Somebody answered." in run("classify_bounces", "text")


def test_classify_bounces_says_that_a_folder_is_empty(tmp_path: Path) -> None:
    assert run("classify_bounces", str(tmp_path)).strip() == "There is no file to read."
    assert json.loads(run("classify_bounces", "--json", str(tmp_path))) == {}


def test_classify_bounces_looks_into_folders(tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    (folder / "b").mkdir(parents=True)
    (folder / "gone.eml").symlink_to(tmp_path / "nowhere")
    for name in ("c.eml", "b/2.eml", "b/1.eml", "a.eml"):
        (folder / name).write_text("From: MAILER-DAEMON@x.example\nSubject: failure notice\n\n550 no such user\n")
    answer = run_program(dict(os.environ), "classify_bounces", "--json", str(folder / "c.eml"), str(folder))
    names = [str(folder / name) for name in ("c.eml", "a.eml", "b/1.eml", "b/2.eml")]
    assert list(json.loads(answer.stdout).items()) == [(name, "hard") for name in names]
    assert answer.stderr == f"“{folder}/gone.eml” could not be read: No such file or directory.\n"
    assert answer.returncode == 1
