// Small helpers to make elements. Text from others reaches the page through textContent only.

/** The element with `id`. */
export const byId = (id) => document.getElementById(id);

/** A new element with a class, text and attributes. */
export function make(tag, className = "", text = "", attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Sets text only where it changes, so that screen readers are not told again what they know. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Paints an avatar: initials on a colour that follows from the id. */
export function paintAvatar(element, id, name) {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + char.codePointAt(0)) % 3600;
  element.style.setProperty("--hue", String(Math.floor(hash / 10)));
  const words = (name || id).split(/[\s._-]+/u).filter(Boolean);
  const initials = words.slice(0, 2).map((word) => [...word][0]).join("");
  setText(element, initials.toUpperCase());
}

/** Copies text, also where the clipboard API is missing because the page came without TLS. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = make("textarea", "sr");
    field.value = text;
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    return copied;
  }
}
