/** Which devices send names that nobody has said the meaning of. What was refused before stays; the mark must not. */

import type { DeviceName } from "./answers";
import type { Port } from "./port";

/** So many devices are asked for their names in a round: a fleet of devices with odd names must not flood the API. */
const MOST_ASKED = 12;

/** Whether a name is left that is refused and not adopted. */
export const someOpen = (names: readonly DeviceName[]): boolean => names.some((name) => name.adopted === null && name.refused > 0);

export class UnknownNames {
  /** uid → the round in which it was last asked for. */
  private readonly asked = new Map<string, number>();
  private round = 0;
  private running = false;

  constructor(
    private readonly port: Port,
    private readonly ask: (uid: string) => Promise<{ readonly items: readonly DeviceName[] }>,
  ) {}

  /** Ask for the names of the devices of which names were refused, those not asked for longest first. */
  async look(): Promise<void> {
    if (this.running) return;
    this.running = true;
    this.round += 1;
    const wanted = this.port.refusedNames.sort((a, b) => (this.asked.get(a) ?? 0) - (this.asked.get(b) ?? 0));
    try {
      for (const uid of wanted.slice(0, MOST_ASKED)) {
        this.asked.set(uid, this.round);
        this.port.setUnknownNames(uid, someOpen((await this.ask(uid)).items));
      }
    } catch {
      // The API does not answer, which the page says elsewhere: the marks stay as they are until it does.
    } finally {
      this.running = false;
    }
  }
}
