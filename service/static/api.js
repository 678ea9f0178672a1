// The service as functions. Every call carries the key, if there is one; every failure is a Trouble.

import { Trouble } from "./words.js";

const STORED = "faceswapd-key";
const PATIENCE = 3; // how often a full or starting service is asked again
let askForKey = async () => null;
let asking = null;

export const key = () => sessionStorage.getItem(STORED);

/** `ask(refused)` shows the person a form and gives the key, or null if they would rather not. */
export function whenKeyIsNeeded(ask) {
  askForKey = ask;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** One question at a time, however many calls were refused. */
async function newKey(used) {
  if (key() !== used) return true; // another call has asked meanwhile
  asking ??= askForKey(used !== null).finally(() => { asking = null; });
  const given = await asking;
  if (given) sessionStorage.setItem(STORED, given);
  return Boolean(given);
}

async function problemOf(answer) {
  const isProblem = answer.headers.get("Content-Type")?.startsWith("application/problem+json");
  return isProblem ? answer.json() : { title: `The service answered ${answer.status}.` };
}

async function reach(address, options, used) {
  const headers = { ...options.headers, ...(used && { Authorization: `Bearer ${used}` }) };
  try {
    return await fetch(address, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Trouble({ type: "/problems/unreachable" });
  }
}

/** The answer to a call that went well. A full service is asked again when it says so. */
export async function call(address, options = {}) {
  for (let turn = 1; ; turn += 1) {
    const used = key();
    const answer = await reach(address, options, used);
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (answer.status === 401) {
      if (await newKey(used)) continue;
      throw new Trouble(problem);
    }
    const wait = Number(answer.headers.get("Retry-After") ?? NaN);
    if (turn > PATIENCE || !(wait <= 5)) throw new Trouble(problem);
    await pause(wait);
    options.signal?.throwIfAborted();
  }
}

export const told = async (address) => (await call(address)).json();

function form(photo) {
  const data = new FormData();
  data.append("image", photo, photo.name ?? "photo");
  return data;
}

export function blobOf(base64, type = "image/png") {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type });
}

/** The faces of a photo: number, box, landmarks, crop. */
export async function findFaces(photo, signal) {
  const answer = await call("/faces", { method: "POST", body: form(photo), signal });
  return (await answer.json()).faces;
}

/** Milliseconds by step, in the order of the work. */
function stepsOf(answer) {
  const entries = (answer.headers.get("Server-Timing") ?? "").split(",").map((entry) => entry.trim().split(";dur="));
  return new Map(entries.filter(([step, took]) => step && took).map(([step, took]) => [step, Number(took)]));
}

/** The whole photo with the face of `target`: { blob, steps, seconds }. */
export async function swapPhoto(photo, target, face, signal) {
  const query = new URLSearchParams({ target, face, output: "photo", format: "jpeg" });
  const began = performance.now();
  const answer = await call(`/swap?${query}`, { method: "POST", body: form(photo), signal });
  return { blob: await answer.blob(), steps: stepsOf(answer), took: performance.now() - began };
}

async function* linesOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value = "" } = await reader.read();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines.filter(Boolean).map((line) => JSON.parse(line));
    if (done) return;
  }
}

/** Every one of `targets` drawn from one crop, which is encoded once: yields [target, blob or Trouble]. */
export async function* swapFaces(crop, targets, signal) {
  const query = `crop=none&target=${targets.map(encodeURIComponent).join(",")}`;
  const headers = { Accept: "application/x-ndjson" };
  const answer = await call(`/swap?${query}`, { method: "POST", body: form(crop), headers, signal });
  if (targets.length === 1) {
    yield [targets[0], await answer.blob()]; // one target is answered with its picture
    return;
  }
  for await (const { target, data, problem } of linesOf(answer)) {
    if (target) yield [target, problem ? new Trouble(problem) : blobOf(data)];
  }
}
