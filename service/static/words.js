// What an error means to the person in front of the page, and what to try. By the problem's type, which is stable.

const FACE = ["Take a photo that shows the face from the front, eyes and mouth free.",
  "Come closer: the face should fill a good part of the picture.",
  "Turn on a light, and avoid a bright window behind the person."];
const SMALLER = ["Save the photo smaller and drop it again."];
const AGAIN = ["Wait a moment and try again."];
const KEY = ["Reload the page and enter the key."];
const LOG = ["Try again. If it stays, tell whoever runs the service the number below; its log has the reason."];

const WORDS = {
  "no-face": ["No face was found in this photo.", FACE],
  "no-such-face": ["That face is not there any more.", ["Choose the photo again, then one of its frames."]],
  "not-an-image": ["This file is not a JPEG, PNG or WebP picture.",
    ["Save it as JPEG. On an iPhone: Settings, Camera, Formats, Most Compatible."]],
  "truncated-image": ["The picture is cut off or damaged.", ["Copy or download the file again, whole."]],
  "image-too-large": ["The picture is larger than the service takes.", SMALLER],
  "body-too-large": ["The file is larger than the service takes.", SMALLER],
  "body-timeout": ["The photo took too long to arrive.", ["Try a smaller photo or a faster line."]],
  "body-made-room": ["The photo took so long to arrive that others went first.", ["Try a smaller photo or a faster line."]],
  "no-image": ["The file is empty.", ["Choose another one."]],
  "bad-multipart": ["The photo did not arrive whole.", ["Choose it again; it may have changed meanwhile."]],
  "unsupported-body": ["The service does not take this kind of file.", ["Choose a JPEG, PNG or WebP picture."]],
  "wrong-crop-size": ["The crop does not have 64 by 64 pixels.", ["Choose the photo again."]],
  "invalid-parameter": ["The service did not understand the request.",
    ["Reload the page; it may be older than the service."]],
  "unknown-identity": ["This identity is not there any more.", ["Reload the page to see who is."]],
  "queue-full": ["The service is busy with other photos.", AGAIN],
  "streams-full": ["As many cameras are connected as the service takes.", AGAIN],
  "starting": ["The service is still loading its networks.", AGAIN],
  "draining": ["The service is being stopped.", ["Try again when it is back."]],
  "not-live": ["A part of the service has stopped.", ["It has to be restarted."]],
  "deadline": ["This took too long.", ["Try again, or a smaller photo."]],
  "head-timeout": ["The request took too long to arrive.", ["Try a faster line."]],
  "handler-timeout": ["This took too long.", AGAIN],
  "connections-full": ["The service is busy with other visitors.", AGAIN],
  "rate-limit": ["That was more than you may ask for at once.", AGAIN],
  "key-missing": ["This service needs a key.", KEY],
  "key-wrong": ["The key is unknown, or no longer holds.", KEY],
  "key-scope": ["The key is for something else.", ["Ask whoever runs the service for a key that may swap."]],
  "foreign-page": ["The service does not know this page's address.",
    ["Open the page at the service's own address. Behind a proxy, Host has to be passed on."]],
  "bundle-unusable": ["A file of the model is damaged.", LOG],
  "device-failed": ["The device cannot run the networks.", LOG],
  "device-lost": ["The device that runs the networks was lost.", LOG],
  "signing-failed": ["The picture could not be signed.", LOG],
  "internal-error": ["Something went wrong inside the service.", LOG],
  // of the page itself
  "unreachable": ["The service cannot be reached.", ["Is it still running? Try again once it is."]],
  "no-camera": ["No camera was found.", ["Connect one, or choose a photo instead."]],
  "camera-refused": ["The page may not use the camera.",
    ["Allow it at the lock beside the page's address, then try again."]],
  "camera-busy": ["The camera cannot be read.", ["Close other programs that use it, then try again."]],
  "camera-insecure": ["Browsers give the camera only to pages on localhost or https.",
    ["Open the page as http://localhost, or put TLS in front of the service."]],
  "stream-closed": ["The connection for the camera broke off.", ["Start the camera again."]],
};

/** An error with words: `title` says what is wrong, `tries` what to do; `id` finds it in the log. */
export class Trouble extends Error {
  constructor({ type = "", title = "", detail = "", request_id: id = "" }) {
    const slug = type.replace(/^.*\/problems\//, "");
    const [known, tries] = WORDS[slug] ?? [title || "Something went wrong.", detail ? [detail] : []];
    super(known);
    Object.assign(this, { slug, title: known, tries, detail, id });
  }
}
