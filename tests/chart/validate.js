/*
 * validate.js - are these Kubernetes objects valid?
 *
 * usage: validate.js <MANIFESTS.yaml    (run beside node_modules; see package.json)
 *
 * Each object is held against the schema of its kind (types, patterns, what is required), then against its type in TypeScript,
 * which also finds keys that no such object has: the API server drops those without a word. Exits 1 when something is wrong.
 */
"use strict";
const fs = require("fs");
const path = require("path");
const { spawnSync } = require("child_process");
const yaml = require("js-yaml");

const here = process.cwd();

function moduleOf(object) {
    const root = object.apiVersion.startsWith("monitoring.coreos.com/") ? "@kubernetes-models/prometheus-operator" : "kubernetes-models";
    return `${root}/${object.apiVersion}/${object.kind}`;
}

function checkSchema(object) {
    const models = require(require.resolve(moduleOf(object), { paths: [here] }));
    try {
        new models[object.kind](object).validate();
        return true;
    } catch (error) {
        console.error(`${object.kind} ${object.metadata.name}: ${error.message}`);
        return false;
    }
}

function checkKeys(objects) {
    const kinds = new Map(objects.map((object) => [moduleOf(object), object.kind]));
    const names = [...kinds.keys()];
    const lines = names.map((name, i) => `import { I${kinds.get(name)} as T${i} } from "${name}";`);
    objects.forEach((object, i) => lines.push(`export const o${i}: T${names.indexOf(moduleOf(object))} = ${JSON.stringify(object, null, 1)};`));
    const file = path.join(here, `objects-${process.pid}.ts`);
    fs.writeFileSync(file, lines.join("\n") + "\n");
    const words = ["--noEmit", "--strict", "--skipLibCheck", "--module", "commonjs", "--moduleResolution", "node", file];
    const done = spawnSync(process.execPath, [path.join(here, "node_modules/typescript/bin/tsc"), ...words], { encoding: "utf8", cwd: here });
    fs.unlinkSync(file);
    process.stderr.write(done.stdout + done.stderr);
    return done.status === 0;
}

const objects = yaml.loadAll(fs.readFileSync(0, "utf8")).filter((object) => object !== null && object !== undefined);
const sound = objects.map(checkSchema).every(Boolean) && checkKeys(objects);
if (!sound || objects.length === 0) {
    process.exit(1);
}
console.log(`${objects.length} objects are valid`);
