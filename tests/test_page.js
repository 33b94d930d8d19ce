// test_page.js PAGE - the status page's script, run as a browser would, on a document that keeps what it is given.
//
// What is shown in each state: empty, healthy, degraded, agent gone. Text of others only ever becomes text. Each
// plot has a text value. Colours have a contrast of 4.5:1 in light and dark. Needs no browser; that the policy names
// the script and the style as they are is shown by tests/unit/test_admin.c.
"use strict";
const assert = require("node:assert"), fs = require("node:fs"), vm = require("node:vm");

const page = fs.readFileSync(process.argv[2], "utf8");
const script = page.match(/<script>([^]*)<\/script>/)[1], style = page.match(/<style>([^]*)<\/style>/)[1];

class Node {
  constructor(tag) {
    this.tag = tag;
    this.children = [];
    this.own = "";
    this.attributes = {};
    this.className = "";
    this.names = new Set();
    this.classList = { add: name => this.names.add(name), remove: name => this.names.delete(name) };
    this.namespaceURI = "svg";
  }
  set textContent(text) {
    this.children = [];
    this.own = String(text);
  }
  get textContent() {
    return this.own + this.children.map(child => child instanceof Node ? child.textContent : child).join(" ");
  }
  set innerHTML(text) {
    throw new Error("markup: " + text);
  }
  append(...nodes) {
    this.children.push(...nodes);
  }
  replaceChildren(...nodes) {
    this.own = "";
    this.children = nodes;
  }
  setAttribute(key, value) {
    this.attributes[key] = String(value);
  }
  all(tag) {
    return this.children.flatMap(child => child instanceof Node ? [...(child.tag === tag ? [child] : []), ...child.all(tag)] : []);
  }
}

const ids = {};
for (const [, id] of page.matchAll(/ id="([a-z]+)"/g)) ids[id] = new Node("id");
const document = {
  title: "",
  body: new Node("body"),
  getElementById(id) {
    assert(ids[id], "no element " + id);
    return ids[id];
  },
  createElement: tag => new Node(tag),
  createElementNS: (space, tag) => new Node(tag),
};
let answer, again;
const context = vm.createContext({
  document, Node, Date, AbortSignal,
  fetch: async (path, options) => {
    assert.equal(path, "/status");
    assert.equal(options.credentials, "omit");
    if (answer === null) throw new Error("gone");
    return { ok: true, json: async () => JSON.parse(JSON.stringify(answer)) };
  },
  setTimeout: (fn, ms) => {
    assert.equal(ms, 2000);
    again = fn;
  },
});

function makeStatus(uptime) {
  return {
    version: "1.2.3", host: "node-7", digest: "abcdef", state: "healthy", ready: true, uptime_seconds: uptime, conditions: [],
    inputs: [{ name: "container", kind: "container", sources: 2, records: 1000 * uptime, lag_seconds: 0.2 }],
    spool: { pending_bytes: 1024 * uptime, max_bytes: 1048576, retained_bytes: 0, has_room: true, seal: "on" },
    outputs: [{ name: "main", up: true, acked: 500 * uptime, pending: 1234, oldest_seconds: 773, ack_p99_seconds: 0.1 }],
    redaction: { off: false, redacted: 2 * uptime, withheld: 0, rules: [{ rule: "jwt", hits: 3 }, { rule: "<img>", hits: 12 }] },
    certificates: [{ use: "output/main", days: 9 }],
    sandbox: { layers: [{ layer: "landlock", on: true }, { layer: "seccomp", on: uptime < 5 }] },
    books: { balanced: true, missing: 0, decoded: 7, spooled: 7, joined: 0, filtered: 0, held: 0, gaps: 0 },
  };
}
const shown = id => ids[id].textContent;
async function ask(status) {
  answer = status;
  if (again === undefined) vm.runInContext(script, context);
  else again();
  await new Promise(done => setImmediate(done));
}

// The contrast of two colours, by WCAG 2.
function luminance(colour) {
  const parts = [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16) / 255).map(
    part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
}
function checkColours() {
  const themes = [...style.matchAll(/:root \{([^]*?)\}/g)];
  assert.equal(themes.length, 2);
  for (const theme of themes) {
    const colours = Object.fromEntries([...theme[1].matchAll(/--([a-z]+): (#[0-9a-f]{6})/g)].map(match => [match[1], match[2]]));
    for (const name of ["ink", "soft", "mark", "bad", "warn"]) {
      const light = [luminance(colours.paper), luminance(colours[name])].sort((a, b) => b - a);
      const contrast = (light[0] + 0.05) / (light[1] + 0.05);
      assert(contrast >= 4.5, `${name} ${colours[name]} on ${colours.paper}: ${contrast}`);
    }
  }
}

async function main() {
  const empty = makeStatus(1);
  empty.inputs[0].sources = 0;
  empty.redaction.rules = [];
  empty.certificates = [];
  await ask(empty);
  assert.match(shown("empty"), /Nothing matches the paths of container yet\. Is the folder mounted\?/);
  assert.match(shown("rules"), /none since the start/);

  await ask(makeStatus(3));
  assert.equal(shown("state"), "Healthy");
  assert.equal(shown("conditions"), "");
  assert.equal(shown("empty"), "");
  assert.match(shown("inputs"), /container 2 1,000 .*0\.2 s/);
  assert.match(shown("outputs"), /main up 500 .*1,234 12 min 53 s 100 ms/);
  assert.match(shown("way"), /read1,000\/s .*redacted2\.0\/s .*3\.0 KiB .*delivered500\/s/);
  assert.match(shown("certificates"), /output\/main .*9 days left \u25b2/);
  assert.equal(shown("sandbox"), "2/2: landlock, seccomp");
  assert.match(shown("rules"), /<img> .*12 jwt .*3/);
  assert.match(shown("books"), /^Balanced: 7 decoded = 7 spooled/);
  const plots = Object.values(ids).flatMap(node => node.all("svg"));
  assert(plots.length >= 9);
  for (const plot of plots) {
    assert.equal(plot.attributes.role, "img");
    assert.match(plot.attributes["aria-label"], /\d/);
    assert(!JSON.stringify(plot.children.map(child => child.attributes)).includes("NaN"));
  }

  const degraded = makeStatus(5);
  degraded.state = "degraded";
  degraded.spool.has_room = false;
  degraded.outputs[0].up = false;
  degraded.conditions = [{ code: "spool-full", text: "no room", safe: "inputs wait", since: "2026-11-23T10:02:11.000Z",
    blocks_ready: true }];
  await ask(degraded);
  assert.equal(shown("state"), "Degraded: 1 thing needs you");
  assert.equal(shown("sandbox"), "\u25b2 1/2: landlock, seccomp off");
  assert.match(shown("conditions"), /\u25a0 spool-full\s+no room.*Since 2026-11-23 10:02:11 UTC\. Safe meanwhile: inputs wait\..*docs\/conditions\.md/);
  assert.match(shown("outputs"), /\u25b2 down/);
  assert.match(shown("spool"), /full: inputs wait/);
  assert.match(shown("live"), /Degraded.*no room/);
  assert.match(document.title, /^\(1\) node-7/);

  await ask(null);
  assert(document.body.names.has("stale"));
  assert.match(shown("state"), /does not answer; what stands here is \d+\.\d s old/);
  assert.match(shown("outputs"), /1,234/);
  await ask(makeStatus(1)); // started again: its counters are lower
  assert(!document.body.names.has("stale"));
  assert.equal(shown("state"), "Healthy");
  assert(!shown("way").includes("-"));
  checkColours();
  for (const part of ["prefers-color-scheme: dark", "@media print", "aria-live=\"polite\"", "width=device-width"]) {
    assert(page.includes(part), part);
  }
  assert(!/transition|animation/.test(style), "nothing moves, so nothing is reduced");
  console.log("empty, healthy, degraded, gone and back: the page shows it");
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
