// The demo's page: one request for each file, at most three at a time, each with its own progress bar.
// Without this script the form still works as a plain POST; what the server says is shown as it says it.
"use strict";

(() => {
  const AT_ONCE = 3;
  const $ = (id) => document.getElementById(id);
  const form = $("form"), zone = $("zone"), picker = $("files"), list = $("list"), summary = $("summary");
  const waiting = [];
  let running = 0;

  document.documentElement.classList.add("js");

  function size(bytes) {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
    return (unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[unit];
  }

  // The same table as `icon_of` of the server.
  function iconOf(type, name) {
    if (/^(image|audio|video|text)\//.test(type)) return type.split("/")[0];
    if (type === "application/pdf") return "pdf";
    if (/[/+.-](zip|gzip|tar|xz|bzip2|zstd|7z|rar)/.test(type) || /\.(zip|gz|tar|xz|bz2|zst|7z|rar)$/i.test(name)) return "archive";
    return "file";
  }

  function setIcon(svg, icon) {
    svg.querySelector("use").setAttribute("href", "#i-" + icon);
  }

  class Card {
    constructor(file) {
      this.file = file;
      this.item = $("card").content.firstElementChild.cloneNode(true);
      this.part = (name) => this.item.querySelector("." + name);
      this.part("name").textContent = this.part("name").title = file.name;
      this.part("size").textContent = size(file.size);
      this.part("bar").setAttribute("aria-label", "Upload of " + file.name);
      this.part("again").addEventListener("click", () => enqueue(this));
      setIcon(this.part("icon"), iconOf(file.type, file.name));
      if (file.type.startsWith("image/")) this.thumbnail(this.local = URL.createObjectURL(file));
      list.prepend(this.item);
    }

    thumbnail(url, shown) {
      const image = new Image();
      image.alt = "";
      image.onload = () => { this.part("thumb").replaceChildren(image); if (shown) shown(); };
      image.src = url; // the icon stays where the browser cannot show the picture
    }

    state(state, text) {
      this.item.dataset.state = state;
      this.part("state").textContent = text;
      tell();
    }

    progress(percent) {
      this.part("bar").setAttribute("aria-valuenow", percent);
      this.part("bar").style.setProperty("--part", percent);
    }

    refused(reason, again) {
      this.part("reason").textContent = reason;
      this.part("reason").hidden = false;
      this.part("again").hidden = !again;
      this.state("refused", "Not saved");
    }

    done(saved) {
      this.part("size").textContent = size(saved.size);
      this.part("size").title = saved.size + " bytes";
      const hash = this.part("hash"), code = hash.querySelector("code"), copy = this.part("copy");
      code.textContent = saved.sha256.slice(0, 10) + "…" + saved.sha256.slice(-6);
      code.title = saved.sha256;
      copy.setAttribute("aria-label", "Copy the SHA-256 of " + this.file.name);
      copy.title = "Copy the SHA-256";
      copy.addEventListener("click", () => copyText(copy, saved.sha256));
      hash.hidden = false;
      for (const one of saved.copies) this.part("chips").append(chip(one, this.file.name));
      this.part("chips").hidden = false;
      if (this.local && saved.copies.length) {
        this.thumbnail(saved.copies[0].url, () => URL.revokeObjectURL(this.local));
      }
      this.state("done", "Saved");
    }
  }

  function chip(one, name) {
    const item = document.createElement("li"), link = document.createElement("a");
    const svg = $("card").content.querySelector(".copy svg").cloneNode(true);
    link.className = "chip";
    link.href = link.title = one.url;
    link.target = "_blank";
    link.rel = "noopener";
    link.setAttribute("aria-label", one.label + ": copy of " + name + " (opens in a new tab)");
    setIcon(svg, "out");
    link.append(one.label, svg);
    item.append(link);
    return item;
  }

  async function copyText(button, text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      window.prompt("SHA-256", text); // no clipboard outside https and loopback
      return;
    }
    setIcon(button, "done");
    button.classList.add("copied");
    say("SHA-256 copied");
    setTimeout(() => { setIcon(button, "copy"); button.classList.remove("copied"); tell(); }, 1600);
  }

  function tell() {
    const count = (state) => list.querySelectorAll('[data-state="' + state + '"]').length;
    const all = list.children.length, done = count("done"), refused = count("refused");
    say(all ? done + " of " + all + " saved" + (refused ? ", " + refused + " not" : "") : "");
  }

  function say(text) {
    if (summary.textContent !== text) summary.textContent = text; // a screen reader speaks each time it is set
  }

  function enqueue(card) {
    card.part("reason").hidden = card.part("again").hidden = true;
    card.progress(0);
    card.state("waiting", "Waiting");
    waiting.push(card);
    next();
  }

  function next() {
    while (running < AT_ONCE && waiting.length) {
      running++;
      send(waiting.shift());
    }
  }

  function send(card) {
    const request = new XMLHttpRequest(), body = new FormData();
    body.append("files", card.file, card.file.name);
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "text";
    request.upload.onprogress = (event) => {
      const percent = event.total ? Math.floor(100 * event.loaded / event.total) : 100;
      card.progress(percent);
      card.state("sending", percent + " %");
    };
    request.upload.onload = () => { card.progress(100); card.state("copying", "Copying to every media server"); };
    request.onloadend = () => { running--; settle(card, request); next(); };
    card.state("sending", "0 %");
    request.send(body);
  }

  function settle(card, request) {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* an answer of something in between */ }
    if (request.status === 200 && answer.files && answer.files.length) return card.done(answer.files[0]);
    const broken = request.status === 0;
    const reason = answer.message || (broken ? "The connection broke, or the file cannot be read." :
      "The server answered " + request.status + " " + request.statusText);
    return card.refused(reason, broken || request.status >= 500);
  }

  function add(files) {
    for (const file of files) enqueue(new Card(file));
  }

  function drop(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry());
    [...transfer.files].forEach((file, at) => {
      const card = new Card(file);
      if (entries[at] && entries[at].isDirectory) card.refused("A folder cannot be sent: choose the files in it.", false);
      else enqueue(card);
    });
  }

  async function samples() {
    const one = async (path, name, type) => new File([await (await fetch(path)).blob()], name, { type });
    const text = new File(["Grüße aus Łódź.\nОдин файл, три сервера.\n"], "Grüße aus Łódź.txt", { type: "text/plain" });
    add([text, await one("/static/leaflet.pdf", "leaflet.pdf", "application/pdf"),
      await one("/static/lake.jpg", "lake.jpg", "image/jpeg")]);
  }

  picker.addEventListener("change", () => { add([...picker.files]); picker.value = ""; });
  form.addEventListener("submit", (event) => { event.preventDefault(); picker.click(); });
  $("samples").addEventListener("click", () => {
    samples().catch(() => say("The samples cannot be read: is the demo still running?"));
  });

  const carries = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  let inside = 0; // dragenter and dragleave come for every element below the pointer
  addEventListener("dragenter", (event) => { if (carries(event)) { inside++; zone.classList.add("over"); } });
  addEventListener("dragleave", (event) => { if (carries(event) && --inside <= 0) { inside = 0; zone.classList.remove("over"); } });
  addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    inside = 0;
    zone.classList.remove("over");
    drop(event.dataTransfer);
  });
})();
