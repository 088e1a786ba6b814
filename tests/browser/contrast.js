// Visible texts whose contrast with what is behind them is below WCAG 2.1's 1.4.3 (AA): 4.5, or 3 for large text.
// Left out, as there: controls that cannot be used, and what is no text of the page (marks inside a bar of a chart).
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, i) => part * a + under[i] * (1 - a));
  const channel = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ratio = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const above = (element) => {
    const chain = [];
    for (let at = element; at; at = at.parentElement) chain.unshift(at);
    return chain;
  };
  const seen = (element) => {
    // From the root down: what is behind, and how far the groups around the text let it through.
    let behind = [255, 255, 255], alpha = 1, bright = 1;
    for (const at of above(element)) {
      const style = getComputedStyle(at);
      alpha *= Number(style.opacity);
      bright *= Number(/brightness\(([\d.]+)\)/.exec(style.filter)?.[1] ?? 1);
      const [r, g, b, a] = rgba(style.backgroundColor);
      behind = over([r, g, b, a * alpha], behind);
    }
    return { behind, alpha, bright };
  };
  const unusable = (element) =>
    element.closest(":disabled, [aria-disabled=true], .disabled") || element.closest("label")?.querySelector(":disabled");
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
  const judge = (element, text) => {
    const style = getComputedStyle(element), drawn = element instanceof SVGElement && !element.closest("foreignObject");
    const around = seen(element), size = parseFloat(style.fontSize);
    const colour = rgba(drawn ? style.fill : style.color).map((part, i) => (i < 3 ? Math.min(255, part * around.bright) : part));
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const got = ratio(over([...colour.slice(0, 3), colour[3] * around.alpha], around.behind), around.behind);
    if (got < needed) found.push(`${got.toFixed(2)} ${element.closest("[id]")?.id ?? ""} .${element.getAttribute("class") ?? ""}: ${text.slice(0, 40)}`);
  };
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement, text = node.data.trim();
    if (!text || unusable(element) || element.closest("script, style, noscript, title, .bartext, .modebar")) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width > 1 && box.height > 1) judge(element, text);
  }
  for (const field of document.querySelectorAll("input, textarea"))
    if (field.value && !unusable(field) && field.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !["range", "radio", "checkbox", "file"].includes(field.type))
      judge(field, field.value);
  return [...new Set(found)];
}
