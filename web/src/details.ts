/**
 * Why something was refused, in the language of the page.
 *
 * The API says it in one English sentence beside a code. In Chinese the sentences that are known are said again with
 * their values; of one that is not known the code is explained, with what the API says behind it: no value is lost.
 */

import { EXPLAINED, SENTENCES, WORDS } from "./i18n/details.zh";
import { language } from "./i18n";
import type { Language } from "./format";

interface Refused {
  readonly reason: string;
  readonly detail: string;
}

/** A word of a sentence, such as the kind of a value, where it is one that is known. */
const word = (text: string): string => WORDS[text] ?? text;

/** What a refusal says, in the language chosen, or in `shown`. */
export function detailOf({ reason, detail }: Refused, shown: Language = language()): string {
  if (shown === "en") return detail;
  for (const [pattern, sentence] of SENTENCES) {
    const found = pattern.exec(detail);
    if (found) return sentence.replace(/\$(\w)/g, (_, group: string) => word(found[Number(group)] ?? ""));
  }
  const explained = EXPLAINED[reason];
  return explained ? (detail ? `${explained}（${detail}）` : explained) : detail;
}
