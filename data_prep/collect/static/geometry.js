/**
 * Sizes, points and times, the same for both annotation pages.
 *
 * A photo is fitted into a box of 324 x 340 CSS px with its aspect ratio kept, and is never enlarged (ImageNet page), or scaled to a height of 450 px (COCO page).
 * A point is the fraction of the photo's displayed rectangle, measured at the moment of the event, so zoom, scroll and device pixel ratio do not matter.
 * A time is the browser's monotonic clock placed on the epoch, in milliseconds.
 */

export const BOX_WIDTH = 324;
export const BOX_HEIGHT = 340;
export const BOARD_HEIGHT = 450;

/** Displayed size in whole px of a `width` x `height` photo in the 324 x 340 box. */
export function fitToBox(width, height) {
  const scale = Math.min(BOX_WIDTH / width, BOX_HEIGHT / height, 1);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** Displayed size on the board: 450 px high, enlarged if need be, and no wider than `available` px, with the aspect ratio kept. */
export function fitToBoard(width, height, available) {
  const scale = Math.min(BOARD_HEIGHT / height, available / width);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** Fractions of `rect` at the viewport point (clientX, clientY). */
export function ratioIn(rect, clientX, clientY) {
  return { x: (clientX - rect.left) / rect.width, y: (clientY - rect.top) / rect.height };
}

export function isInside(rect, clientX, clientY) {
  return clientX >= rect.left && clientX <= rect.right && clientY >= rect.top && clientY <= rect.bottom;
}

/** Epoch milliseconds of an event; monotonic, unlike Date.now(). */
export function timeOf(event) {
  return performance.timeOrigin + event.timeStamp;
}

export function timeNow() {
  return performance.timeOrigin + performance.now();
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Page zoom is not observable directly; the ratio of outer to inner width is the usual estimate. */
export function zoomEstimate() {
  return window.outerWidth > 0 && window.innerWidth > 0 ? window.outerWidth / window.innerWidth : 1;
}
