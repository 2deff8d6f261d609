/**
 * The live stream (SSE): one connection, resumed after a loss with the cursor of the last event seen.
 *
 * The browser's own EventSource gives up for good when a restarting server or a proxy answers with an error, and it
 * cannot tell a silent connection from a dead one. So every loss ends the connection here, and a new one is opened
 * after a growing pause.
 */

import * as answers from "./answers";

export type LinkState = "connecting" | "live" | "stale" | "reconnecting";

export interface StreamHandlers {
  /** The stream has begun; `renewed` if the server has another store than before, so that nothing known holds. */
  onHello(renewed: boolean): void;
  onLive(live: answers.LiveValues): void;
  onEvent(event: answers.PortEvent): void;
  onStatus(status: answers.WorkerStatus): void;
  onBroker(broker: answers.Broker): void;
  onLink(): void;
}

/** Workers report each second; a stream without a word for this long is stale (ms) … */
const STALE_MS = 5_000;

/** … and is opened anew after this long (ms): a dead TCP connection reports nothing by itself. */
const DEAD_MS = 25_000;

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;

/** The pause before attempt `attempt` (0, 1, …): doubling, with jitter so that many pages do not return at once. */
export function pauseBefore(attempt: number, random: number): number {
  const full = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(attempt, 10));
  return full * (0.75 + 0.5 * random);
}

export class Stream {
  private source: EventSource | null = null;
  private attempt = 0;
  private opened = false;
  private heardAt = Number.NaN;
  private lastCursor: number | null = null;
  private timer = 0;
  private shownState: LinkState = "connecting";

  constructor(private readonly handlers: StreamHandlers) {}

  /** Connect and stay connected for the life of the page. */
  start(): void {
    this.open();
    setInterval(() => this.watch(), 1_000);
    addEventListener("online", () => this.retryNow());
  }

  get state(): LinkState {
    if (!this.opened) return Number.isNaN(this.heardAt) ? "connecting" : "reconnecting";
    return this.silence > STALE_MS ? "stale" : "live";
  }

  /** Time since the last word from the server, ms; NaN before the first. */
  get silence(): number {
    return performance.now() - this.heardAt;
  }

  /** Events up to this cursor are known from elsewhere (the first page of events). */
  know(cursor: number): void {
    this.lastCursor = Math.max(this.lastCursor ?? 0, cursor);
  }

  private open(): void {
    const after = this.lastCursor === null ? "" : `?after=${this.lastCursor}`;
    const source = new EventSource(`/v1/stream${after}`);
    this.source = source;
    source.onopen = () => {
      this.attempt = 0;
      this.opened = true;
      this.heard();
    };
    source.onerror = () => this.lost();
    source.addEventListener("hello", (message) =>
      this.take(message, (data) => {
        const hello = answers.hello(data, "hello");
        this.handlers.onBroker(hello.broker);
        this.begin(hello.cursor);
      }),
    );
    source.addEventListener("broker", (message) =>
      this.take(message, (data) => this.handlers.onBroker(answers.broker(data, "broker"))),
    );
    source.addEventListener("live", (message) =>
      this.take(message, (data) => this.handlers.onLive(answers.liveValues(data, "live"))),
    );
    source.addEventListener("status", (message) =>
      this.take(message, (data) => this.handlers.onStatus(answers.workerStatus(data, "status"))),
    );
    source.addEventListener("port-event", (message) =>
      this.take(message, (data) => {
        const event = answers.portEvent(data, "port-event");
        if (this.lastCursor !== null && event.cursor <= this.lastCursor) return; // replayed and known already
        this.lastCursor = event.cursor;
        this.handlers.onEvent(event);
      }),
    );
  }

  private begin(cursor: number): void {
    // Cursors only grow within a store: a smaller one is another store's.
    const renewed = this.lastCursor !== null && cursor < this.lastCursor;
    if (renewed || this.lastCursor === null) this.lastCursor = cursor;
    this.handlers.onHello(renewed);
  }

  private take(message: MessageEvent<string>, handle: (data: unknown) => void): void {
    this.heard();
    handle(JSON.parse(message.data));
  }

  private heard(): void {
    this.heardAt = performance.now();
    this.showState();
  }

  private lost(): void {
    this.source?.close();
    this.source = null;
    this.opened = false;
    this.showState();
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.open(), pauseBefore(this.attempt, Math.random()));
    this.attempt += 1;
  }

  private retryNow(): void {
    if (this.source !== null) return;
    clearTimeout(this.timer);
    this.attempt = 0;
    this.open();
  }

  private watch(): void {
    if (this.opened && this.silence > DEAD_MS) this.lost();
    else this.showState();
  }

  private showState(): void {
    if (this.state === "live" && this.shownState === "live") return;
    this.shownState = this.state;
    this.handlers.onLink();
  }
}
