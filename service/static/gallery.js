// The identities as cards: previews to choose from, and each one's swap of the photo.

import { call } from "./api.js";
import { $, show } from "./pictures.js";

export const GROUP = 32; // as many as one request takes
const FEW = 12; // with more there is something to search
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

const element = (name, className, text = "") =>
  Object.assign(document.createElement(name), { className, textContent: text });

export class Gallery {
  #all = [];
  #cards = new Map();
  #shown = GROUP;
  #chosen = null;
  #swaps = new Map();

  /** `onChoose(name)` on a press; `onShow()` when cards have come that have no swap yet. */
  constructor(onChoose, onShow) {
    this.onChoose = onChoose;
    this.onShow = onShow;
    $("identities").addEventListener("keydown", (event) => this.#move(event));
    $("search").addEventListener("input", () => { this.#shown = GROUP; this.#draw(); });
    $("more").addEventListener("click", () => { this.#shown += GROUP; this.#draw(); });
  }

  list(identities) {
    this.#all = identities;
    $("search-label").hidden = identities.length <= FEW;
    this.#chosen = identities[0]?.name ?? null;
    this.#draw();
  }

  get chosen() {
    return this.#chosen;
  }

  /** Groups of those whose cards are there and have no swap yet; the chosen one first. */
  get missing() {
    const names = [...new Set([this.#chosen, ...this.#visible().map(({ name }) => name)])];
    const left = names.filter((name) => name && !this.#swaps.has(name));
    return Array.from({ length: Math.ceil(left.length / GROUP) }, (_, at) => left.slice(at * GROUP, (at + 1) * GROUP));
  }

  swapOf(name) {
    return this.#swaps.get(name);
  }

  /** What became of the photo for `name`: a picture, or the reason why there is none. */
  put(name, outcome) {
    this.#swaps.set(name, outcome);
    const card = this.#cards.get(name);
    if (card) this.#fill(card, outcome);
  }

  /** Another photo or face: no swap holds any more. */
  clear() {
    this.#swaps.clear();
    for (const card of this.#cards.values()) this.#fill(card, null);
  }

  choose(name) {
    this.#chosen = name;
    for (const [own, card] of this.#cards) {
      card.setAttribute("aria-checked", String(own === name));
      card.tabIndex = own === name ? 0 : -1;
    }
    this.#reachable();
    this.onChoose(name);
  }

  #visible() {
    const wanted = $("search").value.trim().toLowerCase();
    return this.#all.filter(({ name }) => name.includes(wanted)).slice(0, this.#shown);
  }

  #draw() {
    const visible = this.#visible();
    for (const identity of visible) {
      if (!this.#cards.has(identity.name)) this.#cards.set(identity.name, this.#card(identity));
    }
    $("identities").replaceChildren(...visible.map(({ name }) => this.#cards.get(name)));
    const wanted = $("search").value.trim();
    const more = wanted ? 0 : this.#all.length - visible.length;
    $("more").hidden = more <= 0;
    $("more").textContent = `Show ${Math.min(more, GROUP)} more of ${this.#all.length}`;
    $("people-facts").textContent = visible.length ? "" : wanted ? "Nobody of that name." : "Nobody yet.";
    this.#reachable();
    this.onShow();
  }

  /** One card is always in the order of the tab key, the chosen one if it is seen. */
  #reachable() {
    const cards = [...$("identities").children];
    if (cards.length && !cards.some((card) => card.tabIndex === 0)) cards[0].tabIndex = 0;
  }

  #card(identity) {
    const card = element("button", "card");
    const swap = Object.assign(element("img", "swap crisp"), { alt: "" });
    const preview = Object.assign(element("img", "preview"), { alt: "" });
    const word = identity.consent?.kind === "synthetic" ? "synthetic" : "with consent";
    card.append(swap, preview, element("span", "name", identity.name), element("small", "quiet", word));
    card.type = "button";
    card.dataset.name = identity.name;
    card.setAttribute("role", "radio");
    card.setAttribute("aria-checked", String(identity.name === this.#chosen));
    card.tabIndex = identity.name === this.#chosen ? 0 : -1;
    card.addEventListener("click", () => this.choose(identity.name));
    this.#fill(card, this.#swaps.get(identity.name));
    if (identity.preview) this.#preview(preview, identity.preview);
    else preview.remove();
    return card;
  }

  async #preview(image, address) {
    try {
      show(image, await (await call(address)).blob());
    } catch {
      image.remove(); // a card without a picture still has its name
    }
  }

  #fill(card, outcome) {
    const failed = outcome instanceof Error;
    show(card.querySelector(".swap"), failed ? null : outcome);
    card.classList.toggle("swapped", Boolean(outcome) && !failed);
    card.title = failed ? outcome.title : "";
  }

  #move(event) {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const names = this.#visible().map(({ name }) => name);
    const at = names.indexOf(document.activeElement.dataset?.name);
    const next = names[(at + step + names.length) % names.length];
    this.#cards.get(next).focus();
    this.choose(next);
  }
}
