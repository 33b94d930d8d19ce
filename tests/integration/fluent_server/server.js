/*
 * server.js - a Forward receiver that taffrail did not write, for the integration tests.
 *
 *     node server.js [--port N] [--cert FILE --key FILE --ca FILE]
 *
 * With the three files it speaks mutual TLS: a client without a certificate of that CA is refused.
 * The first line on stdout is {"port": N}; then one line an event, {"tag", "time": [seconds,
 * nanoseconds], "record"}. Bytes are shown as {"base64": "..."}. Each message with `chunk` is acked by
 * the library before its events are printed. SIGTERM ends it.
 */
"use strict";

const fs = require("fs");
const { EventTime, FluentServer } = require("@fluent-org/logger");

function parseArguments(words) {
    const known = ["port", "cert", "key", "ca"];
    const options = {};
    for (let i = 0; i < words.length; i += 2) {
        const name = words[i].replace(/^--/, "");
        if (!known.includes(name) || words[i + 1] === undefined) {
            throw new Error(`unknown or empty option ${words[i]}`);
        }
        options[name] = words[i + 1];
    }
    return options;
}

function tlsOptions(options) {
    if (!options.cert && !options.key && !options.ca) {
        return undefined;
    }
    return {
        cert: fs.readFileSync(options.cert),
        key: fs.readFileSync(options.key),
        ca: fs.readFileSync(options.ca),
        requestCert: true,
        rejectUnauthorized: true,
        minVersion: "TLSv1.3",
    };
}

function showTime(time) {
    if (time instanceof EventTime) {
        return [time.epoch, time.nano];
    }
    return [Number(time), 0];
}

function showValue(value) {
    if (value instanceof Uint8Array) {
        return { base64: Buffer.from(value).toString("base64") };
    }
    if (value instanceof EventTime) {
        return showTime(value);
    }
    if (Array.isArray(value)) {
        return value.map(showValue);
    }
    if (value !== null && typeof value === "object") {
        return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, showValue(item)]));
    }
    return typeof value === "bigint" ? value.toString() : value;
}

function print(object) {
    fs.writeSync(1, JSON.stringify(object) + "\n");
}

async function main() {
    const options = parseArguments(process.argv.slice(2));
    const server = new FluentServer({
        tlsOptions: tlsOptions(options),
        listenOptions: { host: "127.0.0.1", port: Number(options.port || 0) },
    });
    server.on("entry", (tag, time, record) => {
        print({ tag, time: showTime(time), record: showValue(record) });
    });
    await server.listen();
    print({ port: server.port });
    process.on("SIGTERM", () => process.exit(0));
}

main().catch(error => {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
});
