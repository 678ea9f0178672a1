// The page: a photo or the camera in, the swap step by step out. Texts are set as text, never as HTML.

import { blobOf, findFaces, swapFaces, swapPhoto, told, whenKeyIsNeeded } from "./api.js";
import { command, copy, showRecord, showTiming } from "./details.js";
import { Gallery } from "./gallery.js";
import { askForKey } from "./key.js";
import { Live } from "./live.js";
import { $, cut, cutBeside, drawFaces, show } from "./pictures.js";
import { Trouble } from "./words.js";

const now = { photo: null, faces: [], face: null };
const works = { find: new AbortController(), faces: new AbortController(), photo: new AbortController() };
const gallery = new Gallery(chosen, drawEveryone);
const live = new Live(cameraEnded);

/** A fresh signal for `work`; what was under way is cancelled, in the service too. */
function anew(work) {
  works[work].abort();
  works[work] = new AbortController();
  return works[work].signal;
}

function mode(name) {
  document.body.dataset.mode = name;
  $("bench").hidden = name !== "photo";
  $("live").hidden = name !== "camera";
}

const say = (text) => { $("status").textContent = text; };

const written = (name, text) => Object.assign(document.createElement(name), { textContent: text });

/** An error in words: what is wrong, what to try, and the number that the log has. */
function complain(trouble) {
  const box = $("trouble");
  box.hidden = !trouble;
  if (!trouble) return box.replaceChildren();
  const tries = document.createElement("ul");
  tries.append(...(trouble.tries ?? []).map((text) => written("li", text)));
  const title = written("h2", trouble.title ?? "Something went wrong.");
  const id = trouble.id ? [written("small", `Request ${trouble.id}`)] : [];
  box.replaceChildren(title, ...(tries.children.length ? [tries] : []), ...id);
  return box;
}

/** Runs `work`; its trouble is told, and that it was cancelled is not. */
async function guarded(work) {
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!error.slug) console.error(error);
    complain(error);
    say("");
  }
}

const choosePhoto = (file) => file && guarded(async () => {
  live.stop();
  for (const work of Object.keys(works)) anew(work);
  Object.assign(now, { photo: file, faces: [], face: null });
  forget();
  complain(null);
  say("Looking for faces.");
  mode("photo");
  await showSource(file);
  now.faces = await findFaces(file, works.find.signal);
  $("bench").classList.toggle("alone", !now.faces.length);
  if (!now.faces.length) throw new Trouble({ type: "/problems/no-face" });
  await pick(now.faces[0]);
});

/** Lets go what was shown of the photo before. */
function forget() {
  $("bench").classList.remove("alone");
  drawFaces([], null);
  for (const id of ["crop", "face", "after", "before"]) show($(id), null);
  for (const id of ["timing", "shell", "pick-hint"]) $(id).hidden = true;
  for (const id of ["photo-link", "face-link"]) unlink($(id));
  $("source-facts").textContent = "";
  gallery.clear();
}

async function showSource(file) {
  show($("source"), file);
  await $("source").decode().catch(() => mode("empty")); // not a picture: the service says what it is
  const { naturalWidth: width, naturalHeight: height } = $("source");
  if (width && height) $("bench").style.setProperty("--wide", (width / height).toFixed(5));
}

/** One of the faces of the photo; everyone is drawn from its crop. */
async function pick(face) {
  now.face = face;
  gallery.clear();
  drawFaces(now.faces, face, picked);
  $("pick-hint").hidden = now.faces.length < 2;
  const [count, sure] = [now.faces.length, Math.round(face.score * 100)];
  const { naturalWidth: width, naturalHeight: height } = $("source");
  $("source-facts").textContent = `${width} × ${height} · ${count === 1 ? "1 face" : `${count} faces`}, ${sure} % sure`;
  show($("crop"), blobOf(face.crop));
  cutBeside(face);
  await Promise.all([drawEveryone(), drawPhoto()]);
}

/** The strip: all cards from one crop, a group in one request, as they come. */
async function drawEveryone() {
  if (!now.face || live.running) return;
  const signal = anew("faces");
  const crop = new File([blobOf(now.face.crop)], "crop.png", { type: "image/png" });
  await guarded(async () => {
    for (const names of gallery.missing) {
      for await (const [target, outcome] of swapFaces(crop, names, signal)) {
        gallery.put(target, outcome);
        if (target === gallery.chosen) showFace();
      }
    }
  });
}

function showFace() {
  const target = gallery.chosen;
  const outcome = gallery.swapOf(target);
  if (!(outcome instanceof Blob)) return;
  link($("face-link"), show($("face"), outcome), `${target}-64.png`);
  $("face").alt = `The face of ${target}, 64 by 64 pixels`;
}

async function drawPhoto() {
  const [target, { photo, face }] = [gallery.chosen, now];
  if (!photo || !face || !target) return;
  const signal = anew("photo");
  $("compare").setAttribute("aria-busy", "true");
  say(`Drawing ${target}.`);
  try {
    const answer = await swapPhoto(photo, target, face.face, signal);
    await showPhoto(photo, target, answer);
  } finally {
    if (!signal.aborted) $("compare").removeAttribute("aria-busy");
  }
}

async function showPhoto(photo, target, answer) {
  const address = show($("after"), answer.blob);
  await $("after").decode().catch(() => {});
  if (!$("before").src) show($("before"), photo);
  $("after").alt = `Your photo with the face of ${target}`;
  link($("photo-link"), address, `${target}-${photo.name.replace(/\.\w+$/, "")}.jpg`);
  showTiming(answer);
  showCommand();
  complain(null);
  say(`Done: your photo with the face of ${target}. The picture is synthetic.`);
}

function link(anchor, address, name) {
  Object.assign(anchor, { href: address, download: name });
  anchor.removeAttribute("aria-disabled");
}

function unlink(anchor) {
  anchor.removeAttribute("href");
  anchor.setAttribute("aria-disabled", "true");
}

function showCommand() {
  const wish = document.querySelector("[name=command]:checked").value;
  const everyone = [...$("identities").children].map((card) => card.dataset.name);
  $("command").textContent = command(wish, now.photo.name, gallery.chosen, now.face.face, everyone.slice(0, 32));
  $("shell").hidden = false;
}

function chosen(name) {
  guarded(() => showRecord(name));
  if (live.running) {
    live.become(name);
    return;
  }
  showFace();
  guarded(drawPhoto);
}

const startCamera = () => guarded(async () => {
  for (const work of Object.keys(works)) anew(work);
  complain(null);
  if (!gallery.chosen || live.running) return;
  Object.assign(now, { photo: null, faces: [], face: null });
  await live.start(gallery.chosen);
  forget();
  mode("camera");
  say("The camera is on.");
  $("stop").focus();
});

function cameraEnded(trouble) {
  mode("empty");
  say("The camera is off.");
  if (trouble) complain(trouble);
}

const isPicture = ({ type }) => type.startsWith("image/");
const picked = (other) => guarded(() => pick(other));

function listen() {
  $("file").addEventListener("change", ({ target }) => { choosePhoto(target.files[0]); target.value = ""; });
  $("camera").addEventListener("click", startCamera);
  $("stop").addEventListener("click", () => { live.stop(); $("camera").focus(); });
  $("shoot").addEventListener("click", () => guarded(async () => choosePhoto(await live.photo())));
  $("slider").addEventListener("input", cut);
  $("copy").addEventListener("click", async () => {
    const done = await copy($("command").textContent);
    $("copy").textContent = done ? "Copied" : "Press Ctrl+C";
    say(done ? "The command is in the clipboard." : "The command is selected.");
    setTimeout(() => { $("copy").textContent = "Copy"; }, 2000);
  });
  for (const radio of document.querySelectorAll("[name=command]")) radio.addEventListener("change", showCommand);
  addEventListener("paste", ({ clipboardData: { files } }) => choosePhoto([...files].find(isPicture)));
  addEventListener("resize", () => drawFaces(now.faces, now.face, picked));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", kind === "dragover");
      if (kind === "drop") choosePhoto(event.dataTransfer.files[0]);
    });
  }
}

async function begin() {
  whenKeyIsNeeded(askForKey);
  listen();
  cut();
  await guarded(async () => {
    const { identities } = await told("/identities");
    gallery.list(identities);
    if (gallery.chosen) await showRecord(gallery.chosen);
  });
  const health = await told("/health").catch(() => null);
  if (!health) return;
  const { status, provider, precision } = health;
  $("service").textContent = `${status} on ${provider.replace("ExecutionProvider", "")}, ${precision}`;
}

begin();
