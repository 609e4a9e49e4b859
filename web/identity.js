// Who this window is: an id, a name, and the token that proves both to the signaling server after a reload.
//
// It is kept in sessionStorage, which outlives a reload but is also copied when a tab is duplicated. A window
// therefore leaves a mark when it goes; one that finds an identity without the mark is a copy and takes a new one.

const KEY = "hippius.identity";
const ADJECTIVES = ["amber", "bold", "brave", "bright", "calm", "clever", "coral", "eager", "early", "fancy", "gentle",
  "golden", "happy", "jolly", "keen", "kind", "lively", "lucky", "merry", "mellow", "noble", "polite", "proud", "quick",
  "quiet", "rapid", "royal", "silver", "sunny", "swift", "tidy", "witty"];
const ANIMALS = ["badger", "beaver", "bison", "crane", "dingo", "eagle", "falcon", "ferret", "finch", "fox", "gecko",
  "heron", "hippo", "ibis", "jackal", "koala", "lemur", "lynx", "marten", "mole", "newt", "otter", "owl", "panda", "puffin",
  "raven", "robin", "seal", "stork", "tapir", "toad", "wombat"];

/** People that one window may have blocked. */
export const MAX_BLOCKED = 1_000;

/** What the server takes as an id. */
export const isId = (text) => typeof text === "string" && /^[A-Za-z0-9._-]{1,64}$/.test(text);

/** What a token to register says of itself: the one id and room it is for, or null. Whether it is good only the server can tell. */
export function claimsOf(token) {
  try {
    const { sub, room } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    const only = (id) => (isId(id) ? id : null);
    return { id: only(sub), room: only(room) };
  } catch {
    return { id: null, room: null };
  }
}

const MAX_NAME = 64;

/**
 * A name as the server takes it: no control, direction or invisible characters, at most 64; nothing where there would be nothing to see, and
 * no more marks on a letter than a language has.
 */
export function cleanName(text) {
  const plain = text
    .slice(0, 16 * MAX_NAME)
    .replace(/[\p{Cc}\u00AD\u034F\u061C\u115F\u1160\u180E\u200B\u200E\u200F\u2028-\u202E\u2060-\u206F\u2800\u3164\uFEFF\uFFA0\uFFF9-\uFFFB\u{E0000}-\u{E007F}]/gu, "")
    .replace(/(\p{M}{3})\p{M}+/gu, "$1");
  return /[\p{L}\p{N}\p{P}\p{S}]/u.test(plain) ? [...plain.trim()].slice(0, MAX_NAME).join("") : "";
}

function invent() {
  const [a, b, c] = crypto.getRandomValues(new Uint16Array(3));
  const adjective = ADJECTIVES[a % ADJECTIVES.length];
  const animal = ANIMALS[b % ANIMALS.length];
  const title = (word) => word[0].toUpperCase() + word.slice(1);
  return {
    id: `${adjective}-${animal}-${c.toString(16).padStart(4, "0")}`,
    name: `${title(adjective)} ${title(animal)}`,
    resume: null,
    token: null,
    talks: [],
    blocked: [],
  };
}

/** Those that `kept` says were blocked, as `{id, name}`. */
function blockedOf(kept) {
  const known = Array.isArray(kept) ? kept.filter((who) => isId(who?.id)).slice(0, MAX_BLOCKED) : [];
  return known.map(({ id, name }) => ({ id, name: cleanName(String(name ?? "")) }));
}

function read() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY));
    if (kept?.left && isId(kept.id)) {
      return {
        id: kept.id,
        name: cleanName(String(kept.name ?? "")),
        resume: typeof kept.resume === "string" ? kept.resume : null,
        token: typeof kept.token === "string" ? kept.token : null,
        talks: Array.isArray(kept.talks) ? kept.talks.filter(isId) : [],
        blocked: blockedOf(kept.blocked),
      };
    }
  } catch {
    // Storage is switched off or holds something else: a new identity will do.
  }
  return null;
}

function write(value) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(value));
  } catch {
    // Without storage a reload is a new visit.
  }
}

/** The identity of this window; change its fields through `update`. */
export class Identity {
  constructor() {
    Object.assign(this, read() ?? invent());
    this.update({});
  }

  update(fields) {
    Object.assign(this, fields);
    const { id, name, resume, token, talks, blocked } = this;
    write({ id, name, resume, token, talks, blocked, left: false });
  }

  /** A permission to register, which may be for one id only. */
  permit(token) {
    const { id } = claimsOf(token);
    this.update({ token, ...(id && id !== this.id && { id, resume: null, talks: [] }) });
  }

  /** Another id, because somebody else holds this one. A name the user chose stays, and so does an id that the token is for. */
  renew() {
    const { id: own, name } = invent();
    const id = claimsOf(this.token).id ?? own;
    const invented = /^[A-Z][a-z]+ [A-Z][a-z]+$/.test(this.name);
    this.update({ id, name: invented ? name : this.name, resume: null, talks: [] });
  }

  /** Whether nothing is wanted of `id`. */
  blocks(id) {
    return this.blocked.some((who) => who.id === id);
  }

  /** To be called when the window goes. `talks` are the peers to connect to again after a reload. */
  leave(talks) {
    const { id, name, resume, token, blocked } = this;
    write({ id, name, resume, token, talks, blocked, left: true });
  }
}
