// Pictures on the page: what is shown, the frames over found faces, the slider before and after.

export const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const share = (value) => `${(value * 100).toFixed(3)}%`;

/** Shows a blob and lets the one before go; gives its address, null for none. */
export function show(image, blob) {
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  if (!blob) {
    image.removeAttribute("src");
    return null;
  }
  image.src = URL.createObjectURL(blob);
  return image.src;
}

function dot(x, y, radius) {
  const circle = document.createElementNS(SVG, "circle");
  for (const [name, value] of Object.entries({ cx: x, cy: y, r: radius })) circle.setAttribute(name, value);
  return circle;
}

/** Dots over the eyes, the nose and the corners of the mouth. */
function drawLandmarks(face, { naturalWidth: width, naturalHeight: height }) {
  const svg = $("landmarks");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const [left, , right] = face ? face.box : [0, 0, 0];
  // Seen at the size that the picture has on the page; never finer than 2.5 of its pixels.
  const radius = Math.max(((right - left) * width) / 42, (2.5 * width) / (svg.clientWidth || width));
  svg.replaceChildren(...(face ? face.landmarks.map(([x, y]) => dot(x * width, y * height, radius)) : []));
}

function frame(face, index, count, chosen, onPick) {
  const button = document.createElement(count > 1 ? "button" : "span");
  const [left, top, right, bottom] = face.box.map((edge) => Math.min(Math.max(edge, 0), 1));
  Object.assign(button.style, {
    left: share(left), top: share(top), width: share(right - left), height: share(bottom - top),
  });
  button.className = "face";
  button.classList.toggle("chosen", chosen);
  if (count > 1) {
    button.type = "button";
    button.setAttribute("aria-pressed", String(chosen));
    button.setAttribute("aria-label", `Face ${index + 1} of ${count}`);
    button.dataset.number = index + 1;
    button.addEventListener("click", () => onPick(face));
  }
  return button;
}

/** Frames over all faces, landmarks in the chosen one. */
export function drawFaces(faces, chosen, onPick) {
  const focused = [...$("faces").children].indexOf(document.activeElement);
  $("faces").replaceChildren(...faces.map((face, i) => frame(face, i, faces.length, face === chosen, onPick)));
  $("faces").children[focused]?.focus();
  drawLandmarks(chosen, $("source"));
}

/** The slider beside the chosen face: all of the new one is seen, and that there is something to move. */
export function cutBeside(face) {
  $("slider").value = Math.min(Math.max(Math.round(face.box[0] * 100) - 5, 4), 94);
  cut();
}

/** The slider: how much of the photo before is seen, from the left. */
export function cut() {
  const before = Number($("slider").value);
  $("compare").style.setProperty("--cut", `${before}%`);
  $("compare").classList.toggle("all-before", before > 78);
  $("compare").classList.toggle("all-after", before < 22);
  $("slider").setAttribute("aria-valuetext", `${before} percent before, ${100 - before} percent after`);
}
