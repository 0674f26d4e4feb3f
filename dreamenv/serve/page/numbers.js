// Numbers as people write them: a minus as wide as a plus, and no minus before nothing.

export function plain(number, digits) {
  const text = Math.abs(number).toFixed(digits);
  return number < 0 && Number(text) !== 0 ? `−${text}` : text;
}

export function signed(number, digits) {
  const text = plain(number, digits);
  return text.startsWith("−") ? text : `+${text}`;
}
