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

/** A pattern of what the API says in English, and the same in another language; `$1` and so on are the groups. */
export type Sentence = readonly [RegExp, string];

/** An English sentence again in Chinese, with its values; one that is not known stays, behind what it is about. */
export function saidAgain(detail: string, sentences: readonly Sentence[], explained: string | undefined): string {
  for (const [pattern, sentence] of sentences) {
    const found = pattern.exec(detail);
    if (found) return sentence.replace(/\$(\w)/g, (_, group: string) => word(found[Number(group)] ?? ""));
  }
  return explained ? (detail ? `${explained}（${detail}）` : explained) : detail;
}

/** What a refusal says, in the language chosen, or in `shown`. */
export function detailOf({ reason, detail }: Refused, shown: Language = language()): string {
  return shown === "en" ? detail : saidAgain(detail, SENTENCES, EXPLAINED[reason]);
}
