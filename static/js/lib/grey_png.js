// An 8-bit grey PNG from an array of bytes: canvases write RGBA only, four times as much. Compressed by the browser.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function chunk(name, body) {
  const found = new Uint8Array(12 + body.length);
  const numbers = new DataView(found.buffer);
  numbers.setUint32(0, body.length);
  found.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  found.set(body, 8);
  numbers.setUint32(8 + body.length, crc(found.subarray(4, 8 + body.length)));
  return found;
}

// `rows(y)` gives the bytes of row y, `width` of them.
export async function greyPng(width, height, rows) {
  const raw = new Uint8Array((width + 1) * height); // each row begins with its filter: none
  for (let y = 0; y < height; y += 1) raw.set(rows(y), y * (width + 1) + 1);
  const packed = await new Response(new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer();
  const head = new Uint8Array(13);
  const numbers = new DataView(head.buffer);
  numbers.setUint32(0, width);
  numbers.setUint32(4, height);
  head.set([8, 0, 0, 0, 0], 8); // 8 bits, grey
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  return new Blob([signature, chunk("IHDR", head), chunk("IDAT", new Uint8Array(packed)), chunk("IEND", new Uint8Array(0))], { type: "image/png" });
}
