// Beside the pictures: who is shown, where the time went, and the same from a shell.

import { key, told } from "./api.js";
import { $ } from "./pictures.js";

const STEPS = {
  read: "Read the photo", detect: "Find and align the face", load: "Load the identity", queue: "Wait for a turn",
  encode: "Encode", decode: "Decode", paste: "Paste back", write: "Write the answer", way: "On the way",
};
const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const percent = (value) => `${Math.round(value * 100)} %`;

/** Rows of a <dl>; those without a value are left out. */
function fill(list, rows) {
  list.replaceChildren(...rows.filter(([, value]) => value).map(([term, value, step]) => {
    const row = document.createElement("div");
    if (step) row.dataset.step = step;
    row.append(Object.assign(document.createElement("dt"), { textContent: term }));
    row.append(Object.assign(document.createElement("dd"), { textContent: value }));
    return row;
  }));
}

function consentRows(consent) {
  if (!consent) return [["Consent", "no record"]];
  const { kind, given_by, date, purpose, ...more } = consent;
  const who = kind === "synthetic" ? "not needed: a person who does not exist" : "given, on record";
  const others = Object.entries(more).filter(([, value]) => typeof value === "string");
  return [["Consent", who], ["Given by", given_by], ["On", date], ["For", purpose],
    ...others.map(([term, value]) => [term.replaceAll("_", " "), value])];
}

function measured({ name, metrics = {}, training = {} }) {
  const known = Number.isFinite(metrics.top1);
  return [
    [`Recognised as ${name}`, known && `${percent(metrics.top1)} of ${metrics.sources ?? "all"} swaps`],
    ["Trained on", training.crops && `${training.crops} pictures`],
  ];
}

let wanted = null;

/** The consent record of `name` and what was measured of it. */
export async function showRecord(name) {
  wanted = name;
  const identity = await told(`/identities/${encodeURIComponent(name)}`);
  if (wanted !== name) return;
  $("record-title").textContent = `About ${name}`;
  fill($("record-facts"), [...consentRows(identity.consent), ["Licence", identity.licence], ...measured(identity)]);
  $("record").hidden = false;
}

/** Each stage of the photo's way; what is not the service's time was spent on the line and in the browser. */
export function showTiming({ steps, took }) {
  const inside = [...steps.values()].reduce((sum, value) => sum + value, 0);
  const all = [...steps, ["way", Math.max(took - inside, 0)]].filter(([, value]) => value >= 0.05);
  $("timing-bar").replaceChildren(...all.map(([step, value]) => {
    const part = document.createElement("span");
    part.dataset.step = step;
    part.style.flexGrow = value;
    return part;
  }));
  const rows = all.map(([step, value]) => [STEPS[step] ?? step, milliseconds(value), step]);
  fill($("timing-facts"), [...rows, ["In all", milliseconds(took)]]);
  $("timing").hidden = false;
}

const inQuotes = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** curl's -F reads `;` and `,` in a file's name unless it is in double quotes. */
function attached(name) {
  if (/^[\w.-]+$/.test(name)) return `image=@${name}`;
  return inQuotes(`image=@"${name.replace(/(["\\])/g, "\\$1")}"`);
}

/** What to type for what is seen: `wish` is photo, face or all. */
export function command(wish, photo, target, face, everyone) {
  const one = encodeURIComponent(target);
  const queries = {
    photo: [`target=${one}`, face && `face=${face}`, "output=photo", "format=jpeg"],
    face: [`target=${one}`, face && `face=${face}`],
    all: [`target=${everyone.map(encodeURIComponent).join(",")}`, face && `face=${face}`],
  };
  const address = `${location.origin}/swap?${queries[wish].filter(Boolean).join("&")}`;
  const several = wish === "all" && everyone.length > 1;
  const out = { photo: `${target}.jpg`, face: `${target}.png`, all: several ? "faces.zip" : `${target}.png` }[wish];
  return [
    `curl -F ${attached(photo)}`,
    key() && `-H "Authorization: Bearer $FACESWAPD_KEY"`,
    several && "-H 'Accept: application/zip'",
    inQuotes(address),
    `-o ${out}`,
  ].filter(Boolean).join(" \\\n  ");
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren($("command")); // Ctrl+C does the rest
    return false;
  }
}
