// Compiles WGSL with Dawn, the compiler and validator that Chrome ships.
//
//   node check.mjs FILE|DIRECTORY...  these files, and the .wgsl files of these directories
//
// They must be complete texts, as `crisp shaders` writes them: a file of shaders/ may lack its parts.
//
// Dawn refuses what naga lets through: a barrier in control flow that is not uniform, subgroup
// functions without `enable subgroups;`. Its null backend is used on purpose: it validates all that
// a browser validates, has exactly the default limits of WebGPU, and needs no driver, so the answer
// is the same on every machine. No shader is run.

import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';

// What the checker itself must be able to tell apart: a sound shader has no `refusal`, the others
// are refused in words that match theirs. The last is one that only pipeline creation can find.
const SELF_CHECKS = [
  {
    what: 'a sound shader',
    code: `
      @group(0) @binding(0) var<storage, read_write> values: array<f32>;
      @compute @workgroup_size(64)
      fn main(@builtin(global_invocation_id) id: vec3<u32>) { values[id.x] = 1.0; }`,
  },
  {
    what: 'a barrier in non-uniform control flow',
    refusal: /uniform control flow/,
    code: `
      @group(0) @binding(0) var<storage, read_write> values: array<f32>;
      @compute @workgroup_size(64)
      fn main(@builtin(local_invocation_id) id: vec3<u32>) {
        if id.x < 7u { workgroupBarrier(); }
        values[id.x] = 1.0;
      }`,
  },
  {
    what: 'more workgroup memory than the default limit',
    refusal: /workgroup storage/,
    code: `
      @group(0) @binding(0) var<storage, read_write> values: array<f32>;
      var<workgroup> tile: array<f32, 4097>;
      @compute @workgroup_size(64)
      fn main(@builtin(local_invocation_id) id: vec3<u32>) { values[id.x] = tile[id.x]; }`,
  },
];

/** Ends the check: it could not be made, which is no better than a refused shader. */
function fail(message) {
  console.error(message);
  process.exit(1);
}

// Everything of Dawn's that is in use is named here: its node binding frees an instance or adapter
// that JavaScript has let go, also while a device still needs it.
const inUse = {};

/** Loads Dawn and opens a device with the default limits. */
async function openDevice() {
  let dawn;
  try {
    dawn = await import('webgpu');
  } catch (why) {
    fail(
      `The npm package "webgpu" (Chrome's compiler) does not load: ${why.message}\n` +
        '  Install it: npm ci --prefix tests/chrome --ignore-scripts',
    );
  }
  inUse.gpu = dawn.create(['backend=null']);
  const adapter = await inUse.gpu.requestAdapter();
  inUse.adapter = adapter;
  if (!adapter) fail('Dawn offers no adapter for its null backend; is webgpu another version?');
  // A feature only makes its `enable` line possible; a file without that line cannot use it.
  return adapter.requestDevice({ requiredFeatures: ['subgroups', 'shader-f16'] });
}

/** The text with blanks for comments, which nest in WGSL; lines keep their numbers. */
function withoutComments(code) {
  let depth = 0;
  let toLineEnd = false;
  return code.replace(/\/\/|\/\*|\*\/|[^]/g, (token) => {
    if (token === '\n') toLineEnd = false;
    if (token === '//' && depth === 0) toLineEnd = true;
    if (token === '/*' && !toLineEnd) depth += 1;
    const inside = toLineEnd || depth > 0;
    if (token === '*/' && !toLineEnd && depth > 0) depth -= 1;
    return inside && token !== '\n' ? ' ' : token;
  });
}

/** The compute entry points of a WGSL text: their names, and the line (from 1) of each. */
function entryPoints(code) {
  const text = withoutComments(code);
  const found = text.matchAll(/@compute\b[^{};]*?\bfn\s+([\p{XID_Start}_]\p{XID_Continue}*)/gu);
  return [...found].map((match) => ({
    name: match[1],
    line: text.slice(0, match.index + match[0].length).split('\n').length,
  }));
}

/** Compiles one text; returns everything the compiler says: `{ type, line, column, text }`. */
async function compile(device, code) {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code });
  const { messages: said } = await module.getCompilationInfo();
  const refused = await device.popErrorScope();
  const messages = said.map(({ type, lineNum, linePos, message }) => ({
    type,
    line: lineNum,
    column: linePos,
    text: message,
  }));
  const isError = ({ type }) => type === 'error';
  if (refused && !messages.some(isError)) {
    messages.push({ type: 'error', line: 1, column: 1, text: refused.message });
  }
  if (messages.some(isError)) return messages;

  const points = entryPoints(code);
  if (points.length === 0) {
    messages.push({ type: 'error', line: 1, column: 1, text: 'no compute entry point' });
  }
  // Limits are checked when a pipeline is made, not when the text is compiled.
  for (const { name, line } of points) {
    try {
      await device.createComputePipelineAsync({
        layout: 'auto',
        compute: { module, entryPoint: name },
      });
    } catch (why) {
      // The lines after the first retrace Dawn's own calls.
      const text = `${name}: ${why.message.split('\n - While ')[0].trim()}`;
      messages.push({ type: 'error', line, column: 1, text });
    }
  }
  return messages;
}

/** Proves on known texts that this compiler accepts and refuses as it must. */
async function checkTheChecker(device) {
  for (const { what, refusal, code } of SELF_CHECKS) {
    const errors = (await compile(device, code)).filter(({ type }) => type === 'error');
    const texts = errors.map(({ text }) => text).join('; ');
    if (!refusal && errors.length > 0) {
      fail(`The checker does not check: it refuses ${what} (${texts}).`);
    }
    if (refusal && !refusal.test(texts)) {
      const says = texts || 'nothing';
      fail(`The checker does not check: it does not refuse ${what} (it says: ${says}).`);
    }
  }
}

/** The files meant by the arguments. */
function filesOf(args) {
  const files = args.flatMap((path) => {
    const entry = statSync(path, { throwIfNoEntry: false });
    if (!entry) fail(`${path}: no such file or directory`);
    if (!entry.isDirectory()) return [path];
    const names = readdirSync(path).filter((name) => name.endsWith('.wgsl'));
    return names.sort().map((name) => join(path, name));
  });
  if (args.length === 0) fail('usage: node check.mjs FILE|DIRECTORY...');
  if (files.length === 0) fail(`${args.join(', ')}: no .wgsl file there, so nothing was checked`);
  return files;
}

const files = filesOf(process.argv.slice(2));
const device = await openDevice();
await checkTheChecker(device);

let errors = 0;
let leftOut = 0;
for (const file of files) {
  const shown = relative('', file).startsWith('..') ? file : relative('', file);
  const code = readFileSync(file, 'utf8');
  // wgpu's cooperative matrices, which Dawn has by another name and with other rules.
  if (/^enable wgpu_cooperative_matrix;$/m.test(code)) {
    leftOut += 1;
    continue;
  }
  for (const { type, line, column, text } of await compile(device, code)) {
    console.log(`${shown}:${line}:${column}: ${type}: ${text}`);
    if (type === 'error') errors += 1;
  }
}
device.destroy();

const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;
const checked = plural(files.length - leftOut, 'shader');
const others = leftOut > 0 ? ` (${leftOut} with cooperative matrices are not for Chrome)` : '';
console.log(`Chrome's compiler: ${checked}, ${plural(errors, 'error')}${others}`);
process.exitCode = errors > 0 ? 1 : 0;
