export const EXAMPLES: readonly string[];
export function listExamples(): string;
export function openExamples(): Promise<{
  run(name: string, args: readonly string[], onLine: (line: string) => void): Promise<string | null>;
  close(): Promise<void>;
}>;
