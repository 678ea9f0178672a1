// Photo and identity in, two calls of POST /swap out. Texts are set as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const chosen = { file: null, identity: null };
let turn = 0; // the latest swap; the answer of an earlier one is dropped

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

function show(image, blob) {
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
  return image.src;
}

function choosePhoto(file) {
  if (!file) return;
  chosen.file = file;
  show($("source"), file);
  $("source").hidden = false;
  $("hint").textContent = file.name;
  swap();
}

function chooseIdentity(name) {
  chosen.identity = name;
  for (const card of $("identities").children) {
    const mine = card.dataset.name === name;
    card.setAttribute("aria-checked", String(mine));
    card.tabIndex = mine ? 0 : -1;
  }
  swap();
}

function cardFor(identity) {
  const card = document.createElement("button");
  card.type = "button";
  card.className = "card";
  card.dataset.name = identity.name;
  card.setAttribute("role", "radio");
  card.setAttribute("aria-checked", "false");
  const picture = document.createElement(identity.preview ? "img" : "div");
  if (identity.preview) {
    picture.src = identity.preview;
    picture.alt = "";
  } else {
    picture.className = "blank";
  }
  const kind = document.createElement("small");
  kind.textContent = identity.consent.kind === "synthetic" ? "synthetic person" : "with consent";
  card.append(picture, identity.name, kind);
  card.addEventListener("click", () => chooseIdentity(identity.name));
  return card;
}

async function ask(parameters) {
  const form = new FormData();
  form.append("image", chosen.file);
  const query = new URLSearchParams({ target: chosen.identity, ...parameters });
  const answer = await fetch(`/swap?${query}`, { method: "POST", body: form });
  if (!answer.ok) {
    const problem = await answer.json();
    throw new Error(problem.detail);
  }
  return { blob: await answer.blob(), timing: answer.headers.get("Server-Timing") };
}

async function swap() {
  if (!chosen.file || !chosen.identity) return;
  const mine = ++turn;
  const target = chosen.identity;
  say("Swapping ...");
  try {
    const [face, photo] = await Promise.all([
      ask({ output: "face", format: "png" }),
      ask({ output: "photo", format: "jpeg" }),
    ]);
    if (mine !== turn) return;
    $("face-link").href = show($("face"), face.blob);
    $("face-link").download = `${target}-face.png`;
    $("photo-link").href = show($("photo"), photo.blob);
    $("photo-link").download = `${target}-photo.jpg`;
    $("result").hidden = false;
    $("timing").textContent = `Milliseconds of the photo: ${photo.timing.replaceAll(";dur=", " ")}`;
    say(`${target} in your photo. The pictures are marked as synthetic.`);
  } catch (error) {
    if (mine !== turn) return;
    $("result").hidden = true;
    $("timing").textContent = "";
    say(error.message, true);
  }
}

async function listIdentities() {
  const answer = await fetch("/identities");
  const { identities } = await answer.json();
  $("identities").append(...identities.map(cardFor));
  if (identities.length) chooseIdentity(identities[0].name);
}

function moveChoice(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const cards = [...$("identities").children];
  const now = cards.findIndex((card) => card.dataset.name === chosen.identity);
  const next = cards[(now + step + cards.length) % cards.length];
  next.focus();
  chooseIdentity(next.dataset.name);
}

$("file").addEventListener("change", (event) => choosePhoto(event.target.files[0]));
$("identities").addEventListener("keydown", moveChoice);
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") choosePhoto(event.dataTransfer.files[0]);
  });
}
listIdentities().catch((error) => say(`The identities could not be listed: ${error.message}`, true));
