// Shows the form's preview again a moment after something in it has changed, and what a link becomes. Without this file
// the button does the former, and saving both.
(() => {
  "use strict";
  const WAIT = 400; // milliseconds of quiet: as long as a pause between two words

  const preview = document.querySelector(".masthead-preview");
  const form = preview && document.getElementById(preview.dataset.form);
  if (!form) return;
  const button = preview.querySelector("button[formaction]");
  const link = document.getElementById("tagged-link");
  let timer = 0;
  let count = 1;

  // A new frame each time, so that the browser's Back button leaves the page instead of walking through previews;
  // the old one stays in sight until the new one has loaded, and hands on how far it was scrolled. Each has a name of
  // its own: Chromium finds the old one by its name even when that was taken from it.
  function freshFrame() {
    const old = preview.querySelector("iframe:not([hidden])");
    preview.querySelectorAll("iframe[hidden]").forEach((frame) => frame.remove());
    const fresh = old.cloneNode();
    fresh.removeAttribute("src");
    fresh.hidden = true;
    count += 1;
    fresh.name = `${button.formTarget}-${count}`;
    old.after(fresh);
    return { old, fresh };
  }

  function show() {
    const { old, fresh } = freshFrame();
    // A form of its own: sending the page's form would tell the page that its changes were saved.
    const copy = document.createElement("form");
    copy.method = "post";
    copy.action = preview.dataset.previewUrl;
    copy.target = fresh.name;
    copy.hidden = true;
    for (const [name, value] of new FormData(form)) {
      if (typeof value !== "string") continue;
      const field = document.createElement("textarea");
      field.name = name;
      field.value = value;
      copy.append(field);
    }
    fresh.addEventListener("load", () => {
      if (!fresh.contentDocument || fresh.contentDocument.URL === "about:blank") return;
      const tagged = fresh.contentDocument.querySelector("meta[name='tagged-link']");
      if (link && tagged) link.textContent = tagged.content;
      const top = old.contentWindow ? old.contentWindow.scrollY : 0;
      fresh.hidden = false;
      old.remove();
      fresh.contentWindow.scrollTo(0, top);
    });
    document.body.append(copy);
    copy.submit();
    copy.remove();
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(show, WAIT);
  }

  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  preview.addEventListener("change", (event) => {
    if (event.target.name === "preview_scheme") show();
  });
  button.addEventListener("click", (event) => {
    event.preventDefault();
    show();
  });
})();
