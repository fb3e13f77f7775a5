"use strict";
// Conveniences only: without this script every page works as plain forms. What it adds: answers without a page load,
// the time from the decoded image to the answer, keys that can be switched off, and zoom that changes at once.
(() => {
  const one = (selector) => document.querySelector(selector);
  const root = document.documentElement;
  let decoded = null; // when the reader could first see the patch
  let busy = false;

  function begin() {
    decoded = null;
    const image = one("#patch");
    root.classList.add("scripted");
    root.classList.toggle("keys", document.body.dataset.shortcuts !== "off");
    if (!image) return;
    if ("auto" in image.dataset) fit(image);
    image.decode().catch(() => {}).then(() => { if (image === one("#patch")) decoded = performance.now(); });
  }

  function fit(image) { // until a reader has chosen a zoom: the largest offered one that the window holds
    const room = one(".frame").parentElement.clientWidth;
    const fitting = [...document.querySelectorAll("#settings [name=zoom]")]
      .filter((choice) => Number(choice.value) * Number(image.dataset.px) <= Math.max(room, 1));
    const chosen = one("#settings [name=zoom]:checked");
    if (image.width <= room || !fitting.length) return;
    fitting.at(-1).checked = true;
    if (chosen !== fitting.at(-1)) draw();
  }

  function fields(form) {
    const data = new URLSearchParams(new FormData(form));
    if (form.id !== "answer") return data;
    const settings = new FormData(one("#settings"));
    data.set("client_ms", (decoded === null ? 0 : performance.now() - decoded).toFixed(1)); // 0: before it was seen
    data.set("zoom", settings.get("zoom"));
    data.set("smooth", settings.get("smooth") || "off");
    data.set("viewport", `${innerWidth}x${innerHeight}`);
    data.set("pixel_ratio", String(devicePixelRatio));
    return data;
  }

  function swap(html, address) {
    const page = new DOMParser().parseFromString(html, "text/html");
    document.title = page.title;
    document.body.className = page.body.className;
    document.body.dataset.shortcuts = page.body.dataset.shortcuts || "";
    one("#progress").replaceChildren(...page.querySelector("#progress").childNodes);
    one("main").replaceWith(page.querySelector("main"));
    if (address !== location.href) history.pushState(null, "", address);
    scrollTo(0, 0);
    begin();
    const heading = one("h1");
    heading.tabIndex = -1;
    heading.focus();
  }

  async function send(form) {
    if (busy) return;
    busy = true;
    try {
      const reply = await fetch(form.action, { method: "POST", body: fields(form) });
      swap(await reply.text(), reply.url);
    } catch {
      one("#notice").textContent = "Not saved: the reading room does not answer. What you entered is still here; please try again.";
    } finally {
      busy = false;
    }
  }

  function draw() {
    const settings = new FormData(one("#settings"));
    const image = one("#patch"), bar = one("#bar"), zoom = Number(settings.get("zoom"));
    image.width = image.height = zoom * Number(image.dataset.px);
    image.className = settings.get("smooth") ? "smooth" : "pixelated";
    if (bar) bar.setAttribute("width", (zoom * Number(bar.dataset.px)).toFixed(2));
    document.body.dataset.shortcuts = settings.get("shortcuts") ? "on" : "off";
    root.classList.toggle("keys", Boolean(settings.get("shortcuts")));
  }

  function look() { // at once; the server is told, so that the next page looks the same
    draw();
    const settings = new FormData(one("#settings"));
    fetch("/settings", { method: "POST", body: new URLSearchParams(settings), redirect: "manual" }).catch(() => {});
  }

  function isTyping(target) {
    return target.matches("textarea, select, input:not([type=radio]):not([type=checkbox])") || target.isContentEditable;
  }

  document.addEventListener("submit", (event) => {
    if (event.target.matches("#settings, [data-swap]")) event.preventDefault();
    if (event.target.matches("#settings")) look();
    if (event.target.matches("[data-swap]")) send(event.target);
  });

  document.addEventListener("change", (event) => {
    if (event.target.closest("#settings")) look();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat || isTyping(event.target)) return;
    if (document.body.dataset.shortcuts === "off") return;
    const choice = one(`#answer input[name=verdict][value=${{ 1: "real", 2: "fake", 3: "unsure" }[event.key] || "none"}]`);
    if (choice) {
      choice.checked = true;
      choice.focus();
    } else if (event.key === "Backspace" && one("#back")) {
      event.preventDefault();
      one("#back").requestSubmit();
    } else if (event.key === "Enter" && !event.target.matches("button, a, summary")) {
      const form = one("#answer"), link = one("[data-enter]");
      if (!form && !link) return;
      event.preventDefault();
      if (form) form.requestSubmit(); else link.click();
    }
  });

  addEventListener("popstate", () => location.reload());

  setInterval(async () => { // the study lead's page, if asked to
    if (!one("#live") || !one("#live").checked) return;
    const page = new DOMParser().parseFromString(await (await fetch("/lead")).text(), "text/html");
    for (const id of ["who", "counts"]) {
      const fresh = page.querySelector(`section[aria-labelledby=${id}]`);
      if (fresh) one(`section[aria-labelledby=${id}]`).replaceWith(fresh);
    }
  }, 10000);

  begin();
})();
