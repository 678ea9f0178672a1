// The camera over WS /stream: frames of at most 640x480 as JPEG, two on the way, the newest answer shown.

import { key } from "./api.js";
import { $ } from "./pictures.js";
import { Trouble } from "./words.js";

const WIDTH = 640;
const HEIGHT = 480;
const ON_THE_WAY = 2; // one in work, one waiting: the service never idles and nothing piles up
const PAUSE_MS = 300; // after a frame that the service was too busy for
const NO_FACE = "No face in view. Look into the camera, with light on your face.";
const REFUSALS = {
  NotAllowedError: "camera-refused", SecurityError: "camera-refused",
  NotFoundError: "no-camera", OverconstrainedError: "no-camera",
};

async function openCamera() {
  if (!navigator.mediaDevices) throw new Trouble({ type: "/problems/camera-insecure" });
  const video = { width: { ideal: WIDTH }, height: { ideal: HEIGHT }, facingMode: "user" };
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    throw new Trouble({ type: `/problems/${REFUSALS[error.name] ?? "camera-busy"}` });
  }
}

export class Live {
  #camera = null;
  #socket = null;
  #canvas = document.createElement("canvas");
  #began = new Map(); // number of a frame -> when it was sent
  #sent = 0;
  #shown = []; // when the frames of the last two seconds were shown
  #report = null;
  #problem = null;
  #ticker = 0;

  /** `onEnd(trouble)` when it is over; no trouble if the person stopped it. */
  constructor(onEnd) {
    this.onEnd = onEnd;
    document.addEventListener("visibilitychange", () => this.#send());
  }

  get running() {
    return this.#camera !== null;
  }

  async start(target) {
    const camera = await openCamera();
    this.#camera = camera;
    const unplugged = () => this.stop(new Trouble({ type: "/problems/camera-busy" }));
    camera.getVideoTracks()[0].addEventListener("ended", unplugged);
    $("video").srcObject = camera;
    await $("video").play();
    $("camera-facts").textContent = `${$("video").videoWidth} × ${$("video").videoHeight}`;
    this.#ticker = setInterval(() => this.#tell(), 500);
    this.#connect(target);
  }

  become(target) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ target }));
  }

  /** What the camera sees now, in its own size, as a file. */
  async photo() {
    const { videoWidth: width, videoHeight: height } = $("video");
    const still = Object.assign(document.createElement("canvas"), { width, height });
    still.getContext("2d").drawImage($("video"), 0, 0);
    const blob = await new Promise((done) => still.toBlob(done, "image/jpeg", 0.92));
    return new File([blob], "camera.jpg", { type: blob.type });
  }

  stop(trouble = null) {
    if (!this.#camera) return;
    for (const track of this.#camera.getTracks()) track.stop();
    this.#camera = null;
    this.#socket?.close();
    this.#socket = null;
    clearInterval(this.#ticker);
    $("video").srcObject = null;
    this.onEnd(trouble);
  }

  #connect(target) {
    this.#began.clear();
    this.#sent = 0;
    this.#shown = [];
    const service = location.origin.replace(/^http/, "ws");
    const socket = new WebSocket(`${service}/stream?target=${encodeURIComponent(target)}`, protocols());
    socket.binaryType = "blob";
    socket.onopen = () => this.#send();
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.#hear(JSON.parse(data)) : this.#draw(data));
    socket.onclose = () => {
      if (socket === this.#socket) this.stop(new Trouble(this.#problem ?? { type: "/problems/stream-closed" }));
    };
    this.#socket = socket;
  }

  /** As many frames as may be on the way. */
  async #send() {
    const socket = this.#socket;
    while (socket?.readyState === WebSocket.OPEN && this.#began.size < ON_THE_WAY && !document.hidden) {
      const number = this.#sent;
      this.#sent += 1;
      this.#began.set(number, performance.now()); // before the wait, so that the count holds
      const frame = await this.#frame();
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send(frame);
    }
  }

  #frame() {
    const { videoWidth, videoHeight } = $("video");
    const scale = Math.min(WIDTH / videoWidth, HEIGHT / videoHeight, 1);
    this.#canvas.width = Math.round(videoWidth * scale);
    this.#canvas.height = Math.round(videoHeight * scale);
    this.#canvas.getContext("2d").drawImage($("video"), 0, 0, this.#canvas.width, this.#canvas.height);
    return new Promise((done) => this.#canvas.toBlob(done, "image/jpeg", 0.8));
  }

  /** A report: about the picture that comes next, or about why there is none. */
  #hear(report) {
    this.#report = { ...report, took: performance.now() - this.#began.get(report.frame) };
    this.#problem = report.problem;
    this.#say(report.problem ? new Trouble(report.problem) : null);
    if (report.frame === undefined) return;
    for (const number of this.#began.keys()) if (number <= report.frame) this.#began.delete(number);
    setTimeout(() => this.#send(), [429, 503].includes(report.problem?.status) ? PAUSE_MS : 0);
  }

  async #draw(picture) {
    const bitmap = await createImageBitmap(picture);
    const canvas = $("output");
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    }
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    this.#shown.push(performance.now());
  }

  #say(trouble) {
    $("live-word").hidden = !trouble;
    const text = trouble?.slug === "no-face" ? NO_FACE : trouble?.title;
    if (text && $("live-word").textContent !== text) $("live-word").textContent = text;
  }

  #tell() {
    const now = performance.now();
    this.#shown = this.#shown.filter((moment) => now - moment < 2000);
    const seconds = this.#shown.length > 1 ? (this.#shown.at(-1) - this.#shown[0]) / 1000 : 0;
    $("rate").textContent = (seconds ? (this.#shown.length - 1) / seconds : 0).toFixed(1);
    const report = this.#report;
    if (!report?.milliseconds) return;
    $("live-facts").textContent = `${report.target}, synthetic`;
    $("frame-time").textContent = `${Math.round(report.took)} ms`;
    $("frame-service").textContent = `${Math.round(report.milliseconds.total)} ms`;
    $("frame-dropped").textContent = String(report.dropped);
  }
}

/** Browsers let a page give a WebSocket no header: a key travels as a subprotocol. */
function protocols() {
  return key() ? ["faceswapd", `faceswapd.key.${key()}`] : [];
}
