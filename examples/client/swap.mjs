// node examples/client/swap.mjs [URL] [TARGET] [FOLDER] [PHOTO...]: a photo, then a batch.
import { readFile, writeFile } from "node:fs/promises";
import { batch, Problem, swap } from "./faceswapd.mjs";

const [base = "http://127.0.0.1:8000", target = "will", folder = ".", ...names] = process.argv.slice(2);
const paths = names.length ? names : ["examples/a.jpg", "examples/no-face.jpg"];
const photos = await Promise.all(paths.map(async (path) => new Blob([await readFile(path)])));
const key = process.env.FACESWAPD_KEY;

try {
  const picture = await swap(base, photos[0], target, { output: "photo", format: "jpeg" }, key);
  await writeFile(`${folder}/photo.jpg`, Buffer.from(await picture.arrayBuffer()));
  console.log(`photo.jpg: ${picture.size} bytes`);
  for await (const { image, problem, picture } of batch(base, photos, [target], {}, key)) {
    if (problem) console.log(`${paths[image]}: ${problem.slug}`);
    else await writeFile(`${folder}/face-${image}.png`, Buffer.from(await picture.arrayBuffer()));
  }
} catch (error) {
  console.error(error instanceof Problem ? `${error.slug}: ${error.message}` : error.cause ?? error);
  process.exitCode = 1;
}
