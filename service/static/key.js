// The form that asks for a key.

import { $ } from "./pictures.js";

const STAYS = "It stays in this tab and is forgotten when you close it.";

/** The key that the person gives; null if they close the form. `refused`: the one before was. */
export function askForKey(refused) {
  $("key-word").textContent = refused ? "That key was not accepted. Please check it." : STAYS;
  $("key-input").value = "";
  $("key").showModal();
  return new Promise((done) => {
    $("key-form").onsubmit = (event) => {
      event.preventDefault();
      $("key").close($("key-input").value.trim());
    };
    $("key-cancel").onclick = () => $("key").close("");
    $("key").oncancel = () => { $("key").returnValue = ""; };
    $("key").onclose = () => done($("key").returnValue || null);
  });
}
