/** The secret of the installation, with which whoever changes something proves itself: asked for where it is needed. */

import * as api from "./api";
import { byId } from "./dom";
import { t } from "./i18n";

const UNAUTHORISED = 401;

/** Something that is done with the secret, and that can be done again once it is known. */
export interface Change {
  /** Does it; 401 of the API asks for the secret, every other failure is its own to say. */
  readonly work: (secret: string) => Promise<void>;
  /** The form is shown behind this element. */
  readonly place: Element;
  /** Says that the secret is needed, or was wrong. */
  readonly say: (text: string) => void;
}

export class Secret {
  private readonly form = byId("device-secret", HTMLFormElement);
  private readonly field = byId("device-secret-text", HTMLInputElement);
  /** Kept for as long as the page is open, and nowhere else. */
  private value = "";
  private waiting: Change | null = null;

  constructor() {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.value = this.field.value;
      const { waiting } = this;
      this.close();
      if (waiting) void this.attempt(waiting);
    });
  }

  /** Hide the form, and forget what waited for it. */
  close(): void {
    this.field.value = "";
    this.form.hidden = true;
    this.waiting = null;
  }

  /** Do a change; where the API asks for the secret, ask for it and do the change then. */
  async attempt(change: Change): Promise<void> {
    try {
      await change.work(this.value);
    } catch (reason) {
      if (!(reason instanceof api.ApiError) || reason.status !== UNAUTHORISED) throw reason;
      change.say(this.value ? t("device.secretWrong") : t("device.secretNeeded"));
      this.waiting = change;
      change.place.after(this.form);
      this.form.hidden = false;
      this.field.focus();
    }
  }
}
