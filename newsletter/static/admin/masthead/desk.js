// The author's desk: what pages do beside what they do without a script. Everything here is a help, nothing is needed.
"use strict";

document.documentElement.classList.add("scripted");

(() => {
  const SECOND = 1000;

  // A form that shows something elsewhere does so as soon as a choice is made.
  function submitOnChange() {
    for (const form of document.querySelectorAll("form[data-on-change]")) {
      form.addEventListener("change", () => form.requestSubmit());
    }
  }

  // A link that shows one form of the issue in the frame takes the eye there.
  function scrollToFrame() {
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[target]");
      const frame = link && document.getElementsByName(link.target)[0];
      if (frame) frame.scrollIntoView({ block: "nearest" });
    });
  }

  // A second press on a button that has been pressed does nothing.
  function pressOnce() {
    document.addEventListener("submit", (event) => {
      const form = event.target;
      if (form.method !== "post" || event.defaultPrevented) return;
      if (form.dataset.pressed) event.preventDefault();
      form.dataset.pressed = "yes";
      setTimeout(() => delete form.dataset.pressed, 5 * SECOND);
    });
  }

  // Words under each text, as one types. The server counts without Markdown's marks; this is near enough to write by.
  function countWords() {
    const show = (area) => {
      let line = area.parentElement.querySelector(".desk-words");
      if (!line) {
        line = document.createElement("p");
        line.className = "desk-words";
        area.after(line);
      }
      const number = (area.value.match(/[\p{L}\p{N}][\p{L}\p{N}'’-]*/gu) || []).length;
      line.textContent = number === 1 ? "1 word" : `${number.toLocaleString("en")} words`;
    };
    const known = (element) => element.matches("textarea[data-count-words]");
    document.querySelectorAll("textarea[data-count-words]").forEach(show);
    document.addEventListener("input", (event) => known(event.target) && show(event.target));
  }

  // Places are counted from 1; the theme writes them from 0 when a section was dragged, right after this event.
  function numberPlaces() {
    document.addEventListener("end", (event) => {
      const group = event.target.closest("#sections-group");
      if (!group) return;
      setTimeout(() => {
        group.querySelectorAll(".form-group.original input[name$='-position']").forEach((input, index) => {
          input.value = index + 1;
          input.dispatchEvent(new Event("change", { bubbles: true }));
        });
      });
    });
  }

  // The theme looks for a text field beside each file field; the browser's own, which ours are, has none.
  function keepPlainFileFields() {
    for (const input of document.querySelectorAll(".desk input[type=file]")) input.hasChangeListener = true;
  }

  // A section that was just added, and one that is alone, are there to be written: unfold them.
  function unfoldNew() {
    const unfold = (group) => group && group.querySelector("h3 strong")?.click();
    document.addEventListener("formset:added", (event) => {
      setTimeout(() => {
        unfold(event.target.closest("#sections-group .form-group"));
        event.target.querySelector("input[name$='-heading']")?.focus();
      });
    });
    const groups = document.querySelectorAll("#sections-group .form-group.original");
    if (groups.length === 1) window.addEventListener("load", () => setTimeout(() => unfold(groups[0]), 100));
  }

  // The state of a send: asks again while something moves, seldom while nobody looks or nothing answers.
  function follow(box) {
    const fastest = 1.5 * SECOND, slowest = 30 * SECOND;
    let wait = fastest, timer = 0;
    const part = (name) => box.querySelectorAll(`[data-live="${name}"]`);
    const say = (name, text) => part(name).forEach((element) => (element.textContent = text));

    function show(state) {
      if (state.status !== box.dataset.status) {
        location.reload();
        return false;
      }
      for (const [name, number] of Object.entries(state.numbers)) say(name, number.toLocaleString("en"));
      say("percent", `${state.percent} %`);
      say("pace", state.pace);
      say("in_hand", state.in_hand);
      for (const bar of box.querySelectorAll("[role=progressbar]")) {
        bar.setAttribute("aria-valuenow", state.percent);
        bar.style.setProperty("--done", `${state.percent}%`);
      }
      if (state.starts_in !== null) countDown(state.starts_in);
      return state.moving;
    }

    let starts = null;
    function countDown(seconds) {
      const first = starts === null;
      starts = Date.now() + seconds * SECOND;
      if (first) setInterval(() => {
        const left = Math.max(0, Math.round((starts - Date.now()) / SECOND));
        say("starts_in", left ? `Starts in ${left} second${left === 1 ? "" : "s"}` : "Starting…");
      }, SECOND / 4);
    }

    async function look() {
      try {
        const answer = await fetch(box.dataset.address, { headers: { Accept: "application/json" } });
        if (!answer.ok) throw new Error(answer.statusText);
        if (!show(await answer.json())) return;
        wait = document.hidden ? slowest : fastest;
      } catch (error) {
        wait = Math.min(wait * 2, slowest);
      }
      timer = setTimeout(look, wait);
    }

    document.addEventListener("visibilitychange", () => {
      if (document.hidden || !timer) return;
      clearTimeout(timer);
      look();
    });
    look();
  }

  // A page that waits for something asks whether it has come, and is loaded again when it has.
  function waitFor(box) {
    const timer = setInterval(async () => {
      const answer = await fetch(location.href).catch(() => null);
      if (!answer || !answer.ok) return;
      const now = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-waits]");
      if (now && now.dataset.waits === box.dataset.waits) return;
      clearInterval(timer);
      location.reload();
    }, 2 * SECOND);
  }

  document.addEventListener("DOMContentLoaded", () => {
    submitOnChange();
    scrollToFrame();
    pressOnce();
    countWords();
    numberPlaces();
    unfoldNew();
    keepPlainFileFields();
    document.querySelectorAll("[data-follow]").forEach(follow);
    document.querySelectorAll("[data-waits]").forEach(waitFor);
  });
})();
