/** What a request that failed says to a person, in the language of the page. */

import { ApiError, UnansweredError } from "./api";
import { saidAgain } from "./details";
import type { Language } from "./format";
import { language, t } from "./i18n";
import { PROBLEMS, PROBLEM_SENTENCES } from "./i18n/problems.zh";

/** A sentence for any failure: a problem of the API, no answer at all, or something that nobody expected. */
export function failureOf(reason: unknown, shown: Language = language()): string {
  if (reason instanceof ApiError) {
    return shown === "en" ? reason.message : saidAgain(reason.message, PROBLEM_SENTENCES, PROBLEMS[reason.slug]);
  }
  if (reason instanceof UnansweredError) return t(reason.inTime ? "failure.unreachable" : "failure.timeout");
  return reason instanceof Error ? reason.message : String(reason);
}
